"""Where KL-regularised policy gradients come to rest, on a bandit whose answer is known.

max_π E_π[r] − β KL(π‖π_ref) has π ∝ π_ref exp(r/β). Expectations are exact: all actions,
or all pairs of them, with their probabilities. One jitted loop trains every method.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.advantages import group_advantages, leave_one_out
from irl_jax.dynamics.returns import gae
from irl_jax.dynamics.shaping import kl_penalised
from irl_jax.losses.policy import grpo, ppo, reinforce
from irl_jax.losses.ratio import k2, k3
from irl_jax.losses.value import clipped_value
from irl_jax.types import Group

REWARD = jnp.array([1.0, 0.4, 0.0, -0.5])
REF = jax.nn.log_softmax(jnp.array([-0.5, 0.6, 0.0, 0.3]))
BETA, N = 0.5, 4
ALONE, PAIRS = (np.array([*itertools.product(range(N), repeat=k)]) for k in (1, 2))
STEPS, RATE, EPOCHS = 1500, 0.5, 3


def chosen(table, index):
    """What a table of actions says of groups of them, f32[G, K, 1]."""
    return table[index][..., None]


def completions(index, behaviour):
    mask = jnp.ones([*index.shape, 1], bool)
    zeros = jnp.zeros(index.shape)
    return Group(
        None, jnp.asarray(index)[..., None], mask, chosen(behaviour, index), zeros, zeros > 0
    )


def expected(loss, logp, behaviour, index, **arrays):
    """The loss of a group, its expectation over groups drawn from the behaviour policy."""
    one = lambda *x: (
        loss(
            x[0][None],
            jax.tree.map(lambda y: y[None], x[1]),
            **{n: y[None] for n, y in x[2].items()},
        ).mean
    )
    each = jax.vmap(one)(chosen(logp, index), completions(index, behaviour), arrays)
    return (jnp.exp(behaviour[index].sum(-1)) * each).sum()


def in_reward(behaviour, index):
    """r − β k1 of every completion."""
    of = lambda x: chosen(x, index)
    mask = jnp.ones([*index.shape, 1], bool)
    rewards = kl_penalised(REWARD[index], of(behaviour), of(REF), mask, beta=BETA)
    return rewards[..., 0]


def on_policy(index, loss, advantage, **arrays):
    """A method that draws anew for every update: logits -> loss."""

    def method(logits):
        logp = jax.nn.log_softmax(logits)
        behaviour = jax.lax.stop_gradient(logp)
        return expected(loss, logp, behaviour, index, advantage=advantage(behaviour), **arrays)

    return method


plain, of_pairs = REWARD[ALONE], REWARD[PAIRS]
half = BETA / 2  # of two completions, the mean over both takes half of what leaving one out does
METHODS = {
    "reinforce-k1-in-reward": on_policy(ALONE, reinforce, lambda mu: in_reward(mu, ALONE)),
    "reinforce-k2-in-loss": on_policy(
        ALONE,
        partial(reinforce, beta=BETA, kl=k2),
        lambda mu: plain,
        ref_logp=chosen(REF, ALONE),
    ),
    "rloo-k1-in-reward": on_policy(
        PAIRS, reinforce, lambda mu: leave_one_out(in_reward(mu, PAIRS))
    ),
    "grpo-k1-in-reward": on_policy(
        PAIRS,
        partial(grpo, clip=0.2, beta=0.0),
        lambda mu: group_advantages(in_reward(mu, PAIRS), scale=False),
    ),
    "grpo-k2-in-loss": on_policy(
        PAIRS,
        partial(grpo, clip=0.2, beta=half, kl=k2),
        lambda mu: group_advantages(of_pairs, scale=False),
        ref_logp=chosen(REF, PAIRS),
    ),
    "grpo-k3-in-loss": on_policy(
        PAIRS,
        partial(grpo, clip=0.2, beta=half, kl=k3),
        lambda mu: group_advantages(of_pairs, scale=False),
        ref_logp=chosen(REF, PAIRS),
    ),
}


def ppo_round(params):
    """Several clipped updates of policy and critic on one distribution of actions."""
    behaviour, old = jax.nn.log_softmax(params["logits"]), params["value"]
    mask = jnp.ones([N, 1, 1], bool)
    reward = in_reward(behaviour, ALONE)[..., None]
    advantage = gae(reward, jnp.full(mask.shape, old), mask, discount=1.0, gae_lambda=0.95)
    targets = advantage + old

    def loss(params):
        logp = jax.nn.log_softmax(params["logits"])
        policy = expected(partial(ppo, clip=0.2), logp, behaviour, ALONE, advantage=advantage)
        regress = lambda value, batch, **x: clipped_value(value, batch, clip=1.0, **x)
        critic = expected(
            regress,
            jnp.full(N, params["value"]),
            behaviour,
            ALONE,
            target=targets,
            old_value=jnp.full(mask.shape, old),
        )
        return policy + critic

    down = lambda _, p: jax.tree.map(lambda x, g: x - RATE * g, p, jax.grad(loss)(p))
    return jax.lax.fori_loop(0, EPOCHS, down, params)


@pytest.fixture(scope="module")
def trained():
    total = lambda logits: sum(method(logits[name]) for name, method in METHODS.items())

    def update(_, state):
        logits, actor_critic = state
        down = jax.tree.map(lambda x, g: x - RATE * g, logits, jax.grad(total)(logits))
        return down, ppo_round(actor_critic)

    start = {name: jnp.zeros(N) for name in METHODS}
    state = (start, {"logits": jnp.zeros(N), "value": jnp.zeros(())})
    logits, actor_critic = jax.jit(partial(jax.lax.fori_loop, 0, STEPS, update))(state)
    policies = {name: jax.nn.softmax(x) for name, x in logits.items()}
    policies["ppo-k1-in-reward"] = jax.nn.softmax(actor_critic["logits"])
    return policies, float(actor_critic["value"])


OPTIMUM = np.asarray(jax.nn.softmax(REF + REWARD / BETA))


@pytest.mark.parametrize("name", [*(n for n in METHODS if "k3" not in n), "ppo-k1-in-reward"])
def test_comes_to_the_optimum(name, trained):
    np.testing.assert_allclose(trained[0][name], OPTIMUM, atol=1e-3)


def test_the_critic_knows_what_the_optimum_is_worth(trained):
    """E[r] − β KL = β log Σ π_ref exp(r/β)."""
    worth = BETA * jax.nn.logsumexp(REF + REWARD / BETA)
    assert trained[1] == pytest.approx(float(worth), abs=1e-3)


def test_k3_in_the_loss_comes_to_something_else(trained):
    """Its gradient is that of KL(π_ref‖π): π = β π_ref / (β + c − r), with c = E_π[r]."""
    ref, reward = np.exp(np.float64(REF)), np.float64(REWARD)
    at = lambda c: BETA * ref / (BETA + c - reward)
    low, high = reward.max() - BETA + 1e-9, reward.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > 1 else (low, middle)
    rest = at(low)
    assert rest @ reward == pytest.approx(low, abs=1e-6)
    np.testing.assert_allclose(trained[0]["grpo-k3-in-loss"], rest, atol=1e-3)
    assert np.abs(rest - OPTIMUM).max() > 0.05
