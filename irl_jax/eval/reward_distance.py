"""How far apart two rewards of a finite process are: EPIC, DARD and STARC.

Each is the same three steps. A reward is brought to a canonical form, which no longer has what
changes no optimal policy; it is scaled to length 1; and the distance is half the length of the
difference, √((1 − ρ)/2) if ρ is the cosine of the angle: 0 for the same reward up to scale, 1 for
opposite ones. The three differ in the canonical form and in the weights of the length.

A reward is f[S, A, S'], R(s, a, s'). f[S, A] is read as one that does not depend on s', and f[S] as
one of the state that is left: R(s, a, s') = R(s).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.planning import check_mdp, expected_next
from irl_jax.masking import as_float, check_range, check_shape
from irl_jax.types import InputError, TabularMDP


def of_transitions(name: str, reward: Array, states: int, actions: int) -> Array:
    """A reward as f[S, A, S'].

    Args:
        name: what to call it in an error.
        reward: f[S, A, S'], f[S, A] or f[S].
        states: S.
        actions: A.

    Raises:
        InputError: it has none of these shapes, or no floating dtype.

    Example:
        >>> of_transitions("reward", jnp.array([1.0, 2.0]), 2, 1).tolist()
        [[[1.0, 1.0]], [[2.0, 2.0]]]
    """
    whole, ndim = (states, actions, states), jnp.ndim(reward)
    if not 1 <= ndim <= 3:
        raise InputError(f"{name}: expected 1, 2 or 3 axes, got shape {list(jnp.shape(reward))}")
    reward = as_float(name, reward, whole[:ndim])
    return jnp.broadcast_to(reward.reshape(reward.shape + (1,) * (3 - ndim)), whole)


def transition_matrix(mdp: TabularMDP) -> Array:
    """P(s' | s, a), f[S, A, S'], also of a process that lists its successors."""
    states, actions = check_mdp(mdp)
    if mdp.successor is None:
        return mdp.prob
    s, a = jnp.arange(states)[:, None, None], jnp.arange(actions)[:, None]
    return jnp.zeros((states, actions, states)).at[s, a, mdp.successor].add(mdp.prob)


def expected_reward(mdp: TabularMDP, reward: Array) -> Array:
    """E[R(s, a, S') | s, a], f[S, A]: all of a reward that a policy can tell.

    Args:
        mdp: the process.
        reward: f[S, A, S'], f[S, A] or f[S].

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    whole = of_transitions("reward", reward, *check_mdp(mdp))
    return (transition_matrix(mdp) * whole).sum(-1)


def canonically_shaped(
    reward: Array,
    *,
    discount: float,
    states: Array | None = None,
    actions: Array | None = None,
) -> Array:
    """A reward without its potential, by random transitions: the canonical form of EPIC.

    C(R)(s, a, s') = R(s, a, s') + E[γ R(s', A, S') − R(s, A, S') − γ R(S, A, S')], the states S
    and S' and the action A drawn independently.

    Args:
        reward: f[S, A, S'].
        discount: γ in [0, 1].
        states: f[S], the distribution D_S; None: uniform.
        actions: f[A], the distribution D_A; None: uniform.

    Returns:
        f[S, A, S'], the same for all rewards R + γ Φ(s') − Φ(s).

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Gleave et al. 2021, "Quantifying Differences in Reward Functions", arXiv 2006.13900,
    canonically shaped reward.
    """
    check_range("discount", discount, 0.0, 1.0)
    ds, da = _coverage(reward, states, actions)
    mean = jnp.einsum("sat,a,t->s", reward, da, ds)
    return reward + discount * mean - mean[:, None, None] - discount * (mean @ ds)


def dynamics_aware(
    reward: Array, transition: Array, *, discount: float, actions: Array | None = None
) -> Array:
    """A reward without its potential, by the transitions of the process: the form of DARD.

    C(R)(s, a, s') = R(s, a, s') + E[γ R(s', A, S'') − R(s, A, S') − γ R(S', A, S'')], with
    A ~ D_A, S' ~ P(s, A) and S'' ~ P(s', A).

    Args:
        reward: f[S, A, S'].
        transition: f[S, A, S'], P(s' | s, a).
        discount: γ in [0, 1].
        actions: f[A], the distribution D_A; None: uniform.

    Returns:
        f[S, A, S'], the same for all rewards R + γ Φ(s') − Φ(s).

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Wulfe et al. 2022, "Dynamics-Aware Comparison of Learned Reward Functions", arXiv
    2201.10081, eq. 3.
    """
    check_range("discount", discount, 0.0, 1.0)
    check_shape("transition", transition, jnp.shape(reward))
    _, da = _coverage(reward, None, actions)
    mean = jnp.einsum("sat,sat,a->s", reward, transition, da)
    between = jnp.einsum("sau,uav,tav,a->st", transition, reward, transition, da)
    return reward + discount * mean - mean[:, None, None] - discount * between[:, None]


def value_adjusted(mdp: TabularMDP, reward: Array, policy: Array | None = None) -> Array:
    """The advantages of a fixed policy: value-adjusted levelling, a canonical form of STARC.

    C(R)(s, a) = E[R(s, a, S') + γ V(S')] − V(s), V the value of a policy that does not depend on R.

    Args:
        mdp: the process; γ < 1, or the policy comes to the end of the episode.
        reward: f[S, A, S'], f[S, A] or f[S].
        policy: f[S, A], π(a | s); None: uniform.

    Returns:
        f[S, A]; two rewards have the same if and only if they differ by a potential and by
        what is paid on some transitions of an action in place of others.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Skalse et al. 2024, "STARC: A General Framework For Quantifying Differences Between
    Reward Functions", arXiv 2309.15257, value-adjusted levelling.
    """
    r = expected_reward(mdp, reward)
    pi = jnp.full_like(r, 1 / r.shape[1]) if policy is None else as_float("policy", policy, r.shape)
    ahead = jnp.einsum("sa,sa,sat->st", pi, mdp.discount, transition_matrix(mdp))
    value = jnp.linalg.solve(jnp.eye(len(r)) - ahead, (pi * r).sum(-1))
    return r + expected_next(mdp, value) - value[:, None]


def minimal_canonical(mdp: TabularMDP, reward: Array) -> Array:
    """The shortest of all rewards that order policies alike: minimal canonicalisation of STARC.

    C(R) = argmin Σ R'(s, a, s')² over the R' that differ from R by a potential and by what is paid
    on some transitions of an action in place of others: least squares in the potential alone.

    Args:
        mdp: the process.
        reward: f[S, A, S'], f[S, A] or f[S].

    Returns:
        f[S, A, S'].

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Skalse et al. 2024, "STARC: A General Framework For Quantifying Differences Between
    Reward Functions", arXiv 2309.15257, minimal canonicalisation, of the L² norm.
    """
    r, transition = expected_reward(mdp, reward), transition_matrix(mdp)
    size = jnp.sqrt((transition**2).sum(-1))
    shaping = jnp.eye(len(r))[:, None] - mdp.discount[..., None] * transition
    design, target = (shaping / size[..., None]).reshape(-1, len(r)), (r / size).ravel()
    rest = target - design @ jnp.linalg.lstsq(design, target)[0]
    return rest.reshape(r.shape)[..., None] * transition / size[..., None]


def standardise(form: Array, reward: Array, weight: Array | float = 1.0) -> Array:
    """A canonical form scaled to length 1, C / ‖C‖; 0 where it is but the rounding of a reward.

    Args:
        form: f[...], C.
        reward: f[...], what it is the form of.
        weight: f[...] of each element, ‖x‖² = Σ w x².

    Example:
        >>> standardise(jnp.array([0.0, 4.0]), jnp.array([3.0, 4.0])).tolist()
        [0.0, 1.0]
        >>> standardise(jnp.array([1e-9, 0.0]), jnp.array([3.0, 4.0])).tolist()
        [0.0, 0.0]
    """
    length = lambda x: jnp.sqrt((weight * x**2).sum())
    half_of_digits = jnp.sqrt(jnp.finfo(form.dtype).eps)
    nothing = length(form) <= half_of_digits * length(reward)
    return jnp.where(nothing, 0.0, form / jnp.where(nothing, 1.0, length(form)))


def half_distance(first: Array, second: Array, weight: Array | float = 1.0) -> Array:
    """Half the length of a difference, ½ √(Σ w (x − y)²), at most 1 if x and y have length 1.

    Args:
        first: f[...], x.
        second: f[...], y.
        weight: f[...] of each element.

    Example:
        >>> x, y = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        >>> [round(float(half_distance(x, z)), 4) for z in (x, y, -x)]
        [0.0, 0.7071, 1.0]
    """
    return 0.5 * jnp.sqrt((weight * (first - second) ** 2).sum())


def epic(
    first: Array,
    second: Array,
    *,
    discount: float,
    states: Array | None = None,
    actions: Array | None = None,
) -> Array:
    """EPIC, the distance that knows no dynamics: d = √((1 − ρ)/2).

    ρ is the correlation of the `canonically_shaped` forms under D_S x D_A x D_S.

    Args:
        first: f[S, A, S'], f[S, A] or f[S].
        second: f[S, A, S'], f[S, A] or f[S].
        discount: γ in [0, 1].
        states: f[S], the distribution D_S; None: uniform.
        actions: f[A], the distribution D_A; None: uniform.

    Returns:
        f[], in [0, 1]; 0 if the rewards differ by a potential and a positive scale, 1 between R
        and −R. A reward that is a potential alone is ½ from any other.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Gleave et al. 2021, "Quantifying Differences in Reward Functions", arXiv 2006.13900,
    the EPIC pseudometric.

    Example:
        >>> r = jnp.zeros((2, 2, 2)).at[0, 0, 1].set(1.0)
        >>> shaped = r + 0.9 * jnp.array([3.0, 1.0]) - jnp.array([3.0, 1.0])[:, None, None]
        >>> [round(float(epic(r, x, discount=0.9)), 3) for x in (2 * shaped, -r)]
        [0.0, 1.0]
    """
    one, two = _pair(first, second)
    ds, da = _coverage(one, states, actions)
    form = lambda r: canonically_shaped(r, discount=discount, states=ds, actions=da)
    cover = ds[:, None, None] * da[:, None] * ds
    return _pearson(form, (one, two), cover)


def dard(
    first: Array,
    second: Array,
    transition: Array,
    *,
    discount: float,
    states: Array | None = None,
    actions: Array | None = None,
) -> Array:
    """DARD, EPIC on transitions that happen: d = √((1 − ρ)/2).

    ρ is the correlation of the `dynamics_aware` forms under D_S x D_A x P.

    Args:
        first: f[S, A, S'], f[S, A] or f[S].
        second: f[S, A, S'], f[S, A] or f[S].
        transition: f[S, A, S'], P(s' | s, a), from `transition_matrix`.
        discount: γ in [0, 1].
        states: f[S], the distribution D_S; None: uniform.
        actions: f[A], the distribution D_A; None: uniform.

    Returns:
        f[], in [0, 1].

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Wulfe et al. 2022, "Dynamics-Aware Comparison of Learned Reward Functions", arXiv
    2201.10081, the DARD pseudometric.
    """
    check_shape("transition", transition, (None, None, None))
    one, two = (
        of_transitions(name, reward, *jnp.shape(transition)[:2])
        for name, reward in (("first", first), ("second", second))
    )
    ds, da = _coverage(one, states, actions)
    form = lambda r: dynamics_aware(r, transition, discount=discount, actions=da)
    cover = ds[:, None, None] * da[:, None] * transition
    return _pearson(form, (one, two), cover)


def starc(
    mdp: TabularMDP,
    first: Array,
    second: Array,
    form: Callable[[TabularMDP, Array], Array] = value_adjusted,
) -> Array:
    """STARC, the distance of canonical forms in a process: d = ½ ‖C(R)/‖C(R)‖ − C(R')/‖C(R')‖‖.

    The lengths are those of L².

    Args:
        mdp: the process; γ < 1, or the uniform policy comes to the end of the episode.
        first: f[S, A, S'], f[S, A] or f[S], R.
        second: f[S, A, S'], f[S, A] or f[S], R'.
        form: C, `value_adjusted` (also of another policy, by `partial`) or `minimal_canonical`.

    Returns:
        f[], in [0, 1]; 0 if and only if both rewards order all policies alike, where every state
        can be reached.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Skalse et al. 2024, "STARC: A General Framework For Quantifying Differences Between
    Reward Functions", arXiv 2309.15257, STARC metrics.

    Differs: half of the L² metric, so that the greatest distance is 1.
    """
    return half_distance(*(standardise(form(mdp, r), r) for r in (first, second)))


def _pair(first: Array, second: Array) -> tuple[Array, Array]:
    """Both rewards as f[S, A, S']; of one action where neither depends on it."""
    shapes = [jnp.shape(r) for r in (first, second)]
    states = max((shape[0] for shape in shapes if shape), default=0)
    actions = max((shape[1] for shape in shapes if len(shape) > 1), default=1)
    one = of_transitions("first", first, states, actions)
    return one, of_transitions("second", second, states, actions)


def _coverage(reward: Array, states: Array | None, actions: Array | None) -> tuple[Array, Array]:
    """Distributions of states f[S] and of actions f[A]."""
    count = jnp.shape(reward)
    ds = jnp.full(count[0], 1 / count[0]) if states is None else states
    da = jnp.full(count[1], 1 / count[1]) if actions is None else actions
    return as_float("states", ds, count[:1]), as_float("actions", da, count[1:2])


def _pearson(form: Callable[[Array], Array], rewards: tuple[Array, Array], weight: Array) -> Array:
    """√((1 − ρ)/2), ρ the weighted correlation of the canonical forms of two rewards."""
    forms = [form(r) for r in rewards]
    centred = [x - (weight * x).sum() for x in forms]
    units = [standardise(x, r, weight) for x, r in zip(centred, rewards, strict=True)]
    return half_distance(units[0], units[1], weight)
