"""Small processes, their soft policies, and where a convex function is least, in float64."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import random_mdp

S, A, DISCOUNT = 5, 3, 0.9


@partial(jax.jit, static_argnames="ends")
def process(*, ends):
    """A random process of two successors; in one state an action ends the episode if it `ends`."""
    mdp = random_mdp(jax.random.key(0), S, A, discount=DISCOUNT, successors=2)
    return replace(mdp, discount=mdp.discount.at[2, 1].set(0.0)) if ends else mdp


@partial(jax.jit, static_argnames="ends")
def ring(*, ends):
    """A deterministic one: an action goes 1, 2 or 3 states on."""
    to = (jnp.arange(S)[:, None] + jnp.arange(A) + 1) % S
    mdp = process(ends=ends)
    return replace(mdp, prob=jnp.ones((S, A, 1)), successor=to[..., None])


@jax.jit
def expert(mdp, reward):
    """Values and log-probs of the soft policy."""
    plan = infinite_horizon(mdp, reward, tolerance=1e-13)
    return plan.value, plan.logp


def newton(objective, x, steps=60):
    """Where a convex function is least; directions that do not move it are left alone."""

    def step(x, _):
        slope, hessian = jax.grad(objective)(x), jax.hessian(objective)(x)
        damping = jnp.linalg.norm(slope) * jnp.eye(len(x))  # 0 at the end: quadratic there
        return x - jnp.linalg.pinv(hessian + damping, rtol=1e-10) @ slope, None

    return jax.jit(lambda x: jax.lax.scan(step, x, length=steps)[0])(x)


@jax.jit
def share(visits):
    return (visits / visits.sum()).reshape(-1)
