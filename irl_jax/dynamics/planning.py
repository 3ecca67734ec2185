"""Planning in a tabular MDP: values, policies and occupancies, all differentiable.

A temperature τ makes planning soft: V = τ log Σ_a exp(Q/τ) and π = exp((Q − V)/τ), which maximises
the return plus τ times the policy's causal entropy. Without a temperature V = max_a Q.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, check_shape
from irl_jax.types import InputError, TabularMDP, Trajectory


@struct.dataclass
class Plan:
    """What planning finds; with a horizon, H steps on a leading axis.

    Attributes:
        q: f[(H,) S, A], Q = r + γ E V(s'), in units of the reward.
        value: f[(H,) S], V.
        logp: f[(H,) S, A], log-probs of the policy (nats); -inf for actions never taken.
    """

    q: Array
    value: Array
    logp: Array


def check_mdp(mdp: TabularMDP) -> tuple[int, int]:
    """The numbers of states and of actions.

    Raises:
        InputError: the arrays do not fit each other.
    """
    states, actions, width = jnp.shape(mdp.prob)
    if mdp.successor is None and width != states:
        raise InputError(
            f"mdp.prob: expected shape [{states}, {actions}, {states}] without successors, got "
            f"{list(jnp.shape(mdp.prob))}"
        )
    if mdp.successor is not None:
        check_shape("mdp.successor", mdp.successor, (states, actions, width))
    check_shape("mdp.start", mdp.start, (states,))
    check_shape("mdp.discount", mdp.discount, (states, actions))
    return states, actions


def expected_next(mdp: TabularMDP, value: Array) -> Array:
    """γ E[V(s') | s, a], f[S, A].

    Args:
        mdp: the process.
        value: f[S].
    """
    after = mdp.prob @ value if mdp.successor is None else (mdp.prob * value[mdp.successor]).sum(-1)
    return mdp.discount * after


def flow(mdp: TabularMDP, mass: Array) -> Array:
    """Mass that arrives in each state, Σ_sa γ P(s' | s, a) m(s, a), f[S]: `expected_next` reversed.

    Args:
        mdp: the process.
        mass: f[S, A].
    """
    mass = mdp.discount * mass
    if mdp.successor is None:
        return jnp.einsum("sa,sat->t", mass, mdp.prob)
    return jnp.zeros_like(mdp.start).at[mdp.successor].add(mdp.prob * mass[..., None])


def finite_horizon(
    mdp: TabularMDP, reward: Array, *, horizon: int, temperature: float | Array | None = 1.0
) -> Plan:
    """Plans for H steps: Qₜ = rₜ + γ E Vₜ₊₁, V_H = 0.

    Args:
        mdp: the process.
        reward: f[S, A], or f[H, S, A] where it changes with time; -inf forbids an action.
        horizon: H, at least 1.
        temperature: τ > 0, reward a nat; None: a hard maximum, ties at random.

    Returns:
        The plan, its first axis time.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Ziebart 2010, "Modeling Purposeful Adaptive Behavior with the Principle of Maximum
    Causal Entropy", section 5 (soft value iteration).

    Example:
        >>> stay = jnp.ones((1, 2, 1))  # one state, two actions
        >>> mdp = TabularMDP(stay, jnp.ones(1), jnp.ones((1, 2)))
        >>> plan = finite_horizon(mdp, jnp.zeros((1, 2)), horizon=3)
        >>> [round(float(v), 4) for v in jnp.exp(plan.value[:, 0])]  # the futures left, 2^H
        [8.0, 4.0, 2.0]
    """
    states, actions = check_mdp(mdp)
    check_range("horizon", horizon, 1)
    timed = jnp.ndim(reward) == 3
    reward = as_float("reward", reward, (horizon,) * timed + (states, actions))
    rewards = jnp.broadcast_to(reward, (horizon, states, actions))

    def back(value: Array, reward: Array) -> tuple[Array, Plan]:
        plan = _improve(reward + expected_next(mdp, value), temperature)
        return plan.value, plan

    zeros = jnp.zeros(states, jnp.result_type(reward, mdp.prob))
    return jax.lax.scan(back, zeros, rewards, reverse=True)[1]


def infinite_horizon(
    mdp: TabularMDP,
    reward: Array,
    *,
    temperature: float | Array | None = 1.0,
    guess: Array | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
) -> Plan:
    """Plans for ever: the fixed point of Q = r + γ E V, by policy iteration.

    Newton's method on V = T(V): V ← V + (I − γP_π)⁻¹ (T(V) − V), a handful of linear systems of S
    equations. The gradient is that of the fixed point itself, by the implicit function theorem,
    and costs one more.

    Args:
        mdp: the process; γ < 1, or every policy comes to the end of the episode.
        reward: f[S, A]; -inf forbids an action.
        temperature: τ > 0, reward a nat; None: a hard maximum, ties at random.
        guess: f[S], values to begin from, such as those of a reward that is almost the same.
        tolerance: the largest change of a value in the last iteration, in shares of 1 + |V|.
        max_iterations: after so many the values are NaN unless they have come to rest.

    Returns:
        The plan, without an axis of time.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Puterman & Brumelle 1979, "On the convergence of policy iteration in stationary
    dynamic programming"; Ziebart 2010, section 5.
    """
    states, actions = check_mdp(mdp)
    check_range("tolerance", tolerance, 0.0, exclusive=True)
    reward = as_float("reward", reward, (states, actions))
    step = lambda value: _improve(reward + expected_next(mdp, value), temperature).value
    residual = lambda value: step(value) - value
    solve = lambda linear, y: jnp.linalg.solve(jax.jacobian(linear)(y), y)

    def iterate(residual: Callable[[Array], Array], value: Array) -> Array:
        def again(at: tuple[Array, Array, int]) -> tuple[Array, Array, int]:
            value, _, done = at
            new = value - jnp.linalg.solve(jax.jacobian(residual)(value), residual(value))
            moved = (jnp.abs(new - value) / (1.0 + jnp.abs(new))).max()
            return new, moved, done + 1

        going = lambda at: (at[1] > tolerance) & (at[2] < max_iterations)
        found, moved, _ = jax.lax.while_loop(going, again, (value, jnp.asarray(jnp.inf), 0))
        return jnp.where(moved <= tolerance, found, jnp.nan)

    first = jnp.zeros(states) if guess is None else as_float("guess", guess, (states,))
    first = first.astype(jnp.result_type(reward, mdp.prob))
    value = jax.lax.custom_root(residual, jax.lax.stop_gradient(first), iterate, solve)
    return _improve(reward + expected_next(mdp, value), temperature)


def _improve(q: Array, temperature: float | Array | None) -> Plan:
    """The best policy, or the best but for entropy, if these are the values of actions."""
    if temperature is None:
        value = q.max(-1)
        best = q == value[..., None]
        logp = jnp.where(best, -jnp.log(best.sum(-1, keepdims=True)), -jnp.inf)
        return Plan(q, value, logp)
    check_range("temperature", temperature, 0.0, exclusive=True)
    value = temperature * jax.nn.logsumexp(q / temperature, axis=-1)
    return Plan(q, value, (q - value[..., None]) / temperature)


def occupancy(mdp: TabularMDP, logp: Array) -> Array:
    """How often a policy comes to each state and action, discounted, exactly.

    μₜ(s, a) = E[Π_{u<t} γ_u 1(sₜ = s, aₜ = a)] with a horizon; without one their sum over t, the
    solution of μ(s, a) = π(a | s) (p₀(s) + Σ γ P(s | s', a') μ(s', a')).

    Args:
        mdp: the process; without a horizon γ < 1, or every policy comes to an end.
        logp: f[H, S, A] log-probs of a policy that knows the time (nats), or f[S, A].

    Returns:
        f[H, S, A], or f[S, A].

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Puterman 1994, "Markov Decision Processes", section 6.9.

    Example:
        >>> stay = jnp.ones((1, 1, 1))  # one state, one action
        >>> mdp = TabularMDP(stay, jnp.ones(1), jnp.full((1, 1), 0.5))
        >>> occupancy(mdp, jnp.zeros((3, 1, 1))).ravel().tolist()
        [1.0, 0.5, 0.25]
        >>> occupancy(mdp, jnp.zeros((1, 1))).tolist()
        [[2.0]]
    """
    states, actions = check_mdp(mdp)
    timed = jnp.ndim(logp) == 3
    policy = jnp.exp(as_float("logp", logp, (None,) * timed + (states, actions)))
    if not timed:
        arrive = jax.vmap(lambda at: flow(mdp, at[:, None] * policy))(jnp.eye(states))
        visits = jnp.linalg.solve(jnp.eye(states) - arrive.T, mdp.start)
        return visits[:, None] * policy

    def forward(mass: Array, policy: Array) -> tuple[Array, Array]:
        taken = mass[:, None] * policy
        return flow(mdp, taken), taken

    start = mdp.start.astype(jnp.result_type(policy, mdp.prob))
    return jax.lax.scan(forward, start, policy)[1]


def empirical_occupancy(mdp: TabularMDP, batch: Trajectory) -> Array:
    """How often demonstrations come to each state and action at each time, discounted.

    μ_D(t, s, a) = 1/B Σᵢ γ^t 1(sᵢₜ = s, aᵢₜ = a), the sample mean of `occupancy`.

    Args:
        mdp: the process, whose discounts count.
        batch: B demonstrations; `context` is i32[B, T], the state of each action. What follows
            the end of a row's first episode, or where it was cut, does not count.

    Returns:
        f[T, S, A], the mean over demonstrations; its sum over T is that without time.

    Raises:
        InputError: an array has the wrong shape.

    Reference: Abbeel & Ng 2004, "Apprenticeship learning via inverse reinforcement learning",
    section 2 (feature expectations, here of indicators).
    """
    states, actions = check_mdp(mdp)
    state, action = batch.context, batch.action
    check_shape("batch.action", action, jnp.shape(state))
    check_mask("batch.mask", batch.mask, jnp.shape(state))
    elsewhere = 1.0 if batch.discount is None else jnp.where(batch.discount == 0, 0.0, 1.0)
    after = jnp.where(batch.mask, mdp.discount[state, action], elsewhere)
    weight = jnp.where(batch.mask, cumulative_discount(after), 0.0) / len(state)
    time = jnp.broadcast_to(jnp.arange(state.shape[1]), state.shape)
    return jnp.zeros((state.shape[1], states, actions)).at[time, state, action].add(weight)


def cumulative_discount(discount: Array) -> Array:
    """The product of all discounts before each step, f[..., T].

    Args:
        discount: f[..., T], γ after each step.

    Example:
        >>> cumulative_discount(jnp.array([0.5, 0.5, 0.0, 1.0])).tolist()
        [1.0, 0.5, 0.25, 0.0]
    """
    ones = jnp.ones_like(discount[..., :1])
    return jnp.cumprod(jnp.concatenate([ones, discount[..., :-1]], -1), -1)
