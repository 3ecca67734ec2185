"""Occupancies brought together without a discriminator's reward: ValueDICE and f-IRL.

ρ is how often states, or states and actions, are come to. `value_dice` tells the ratio of two of
them by a function ν of which only γ-discounted differences count, so that no sample of the policy
is needed; `f_irl` descends on an f-divergence of states by the reward under which a policy is
soft-optimal.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.divergence import FDivergence
from irl_jax.losses.reduction import token_mean
from irl_jax.masking import as_float, check_mask, check_range, masked_mean
from irl_jax.types import Loss, Rating, Trajectory, safe_divide


def value_dice(
    nu: Array, following: Array, initial: Array, batch: Rating, *, discount: float | Array
) -> Loss:
    """Imitation from demonstrations alone, by the Donsker-Varadhan bound of KL(ρ_π‖ρ_E).

    L = log E_D exp(x) − (1 − α)(1 − γ) E ν(s₀, a₀) − α E_R[x], x = ν(s, a) − γ ν(s′, a′), where a₀
    and a′ are the policy's and D is a mixture of demonstrations and, with the share α, of replayed
    samples R. ν minimises L and the policy maximises it, through `following` and `initial`. At the
    minimum x = log ρ_π/ρ_E + a constant, and L = −KL(ρ_π‖ρ_E), both of the mixtures with R.

    Episodes go on for ever: one that ends has its last state follow itself in the data, or L has no
    minimum. The authors keep ν smooth by `gradient_penalty` between demonstrations and samples.

    Args:
        nu: f32[N], ν of the transitions. Rows of weight 0 may be NaN, as in `following`.
        following: f32[N], γ ν(s′, a′), a′ drawn from the policy, or its mean.
        initial: f32[M], ν(s₀, a₀) of states in which episodes begin; or, as the authors have it, of
            all demonstrated ones.
        batch: transitions; `score` is 1 for a demonstration, 0 for a replayed sample; α is the
            share of the latter in the weights.
        discount: γ in [0, 1].

    Returns:
        Loss of a weight of 1: a logarithm of a mean is no sum over transitions. Metrics:
        `log_ratio`, the mean of x, and `initial`, that of ν(s₀, a₀).

    Raises:
        InputError: an array has the wrong shape or dtype, or the discount is out of range.

    Reference: Kostrikov, Nachum & Tompson 2019, "Imitation Learning via Off-Policy Distribution
    Matching", arXiv 1912.05032.

    Example:
        >>> batch = Rating(None, None, None, score=jnp.ones(2), weight=jnp.ones(2))
        >>> zeros = jnp.zeros(2)
        >>> float(value_dice(zeros, zeros, jnp.ones(1), batch, discount=0.75).mean)
        -0.25
    """
    check_range("discount", discount, 0.0, 1.0)
    nu = as_float("nu", nu, (None,))
    following = as_float("following", following, nu.shape)
    initial = as_float("initial", initial, (None,))
    score = as_float("batch.score", batch.score, nu.shape)
    weight = as_float("batch.weight", batch.weight, nu.shape)
    counts = weight > 0
    nu, following, score = (jnp.where(counts, x, 0.0) for x in (nu, following, score))
    x, share = nu - following, safe_divide(weight, weight.sum())
    some = counts.any()
    log_share = jnp.where(counts, jnp.log(jnp.where(counts, share, 1.0)), -jnp.inf)
    bound = jax.nn.logsumexp(jnp.where(some, x + log_share, 0.0))
    replayed = share * (1.0 - score)
    begin = (1.0 - replayed.sum()) * (1.0 - discount) * initial.mean()
    one = jnp.ones((), nu.dtype)
    total = jnp.where(some, bound - begin - (replayed * x).sum(), 0.0)
    metrics = {"log_ratio": ((share * x).sum(), one), "initial": (initial.mean(), one)}
    return Loss(total, one, metrics)


def f_irl(
    reward: Array,
    batch: Trajectory,
    *,
    logit: Array,
    divergence: FDivergence,
    temperature: float | Array,
    baseline: float | Array | None = None,
) -> Loss:
    """The gradient of an f-divergence of state occupancies by a reward, of trajectories.

    L = 1/τN Σᵢ Σₜ (h(sᵢₜ) − h̄) Σₜ r(sᵢₜ), N all states of the batch, h = f(u) − u f′(u) with
    u = ρ_E/ρ_π. Its gradient is the covariance of Σₜ h and Σₜ ∇r over τ E T, that of D_f(ρ_E‖ρ_π)
    where the trajectories are those of the soft policy of r; its value is none of the divergence.

    Holds for undiscounted episodes that begin in one state of a deterministic process: there a
    trajectory of the policy is as likely as exp(Σₜ r/τ). Elsewhere what chance did is taken for the
    work of the reward; `state_matching` is exact.

    Args:
        reward: f32[B, T], r of each state, what is learned. Read where `batch.mask` is true, as
            is `logit`.
        batch: trajectories of the soft policy of r; its mask is read.
        logit: f32[B, T], v of each state by a discriminator that `divergence.variational` trained
            on states; a constant. f*(g(v)) is −h.
        divergence: f, one of `divergence.DIVERGENCES` or an `alpha_divergence`.
        temperature: τ > 0 of the policy, reward a nat.
        baseline: h̄, the mean of h over the states that the policy comes to; of this batch by
            default, and the loss is then no sum over micro-batches.

    Returns:
        Loss a state. Metrics: `h`.

    Raises:
        InputError: an array has the wrong shape or dtype, or the temperature is not positive.

    Reference: Ni et al. 2020, "f-IRL: Inverse Reinforcement Learning via State Marginal Matching",
    arXiv 2011.04709.

    Differs: episodes may be of different lengths, h then less its mean at each state.
    """
    check_range("temperature", temperature, 0.0, exclusive=True)
    reward = as_float("reward", reward, (None, None))
    mask = batch.mask
    check_mask("batch.mask", mask, reward.shape)
    logit = jnp.where(mask, as_float("logit", logit, reward.shape), 0.0)
    h = jnp.where(mask, -divergence.conjugate(jax.lax.stop_gradient(logit)), 0.0)
    mean = masked_mean(h, mask) if baseline is None else baseline
    apart = jnp.where(mask, h - mean, 0.0).sum(-1)
    total = (apart * jnp.where(mask, reward, 0.0).sum(-1)).sum() / temperature
    return Loss(total, mask.sum().astype(reward.dtype), {"h": token_mean(h, mask)})


def state_matching(visits: Array, demonstrated: Array, *, divergence: FDivergence) -> Loss:
    """The f-divergence of exact occupancies, D_f(ρ_E‖ρ_π) = Σ ρ_π f(ρ_E/ρ_π).

    Differentiated through `dynamics.planning` it teaches a reward, whatever the process.

    Args:
        visits: f32[...], how often the policy comes to each state, or state and action; scaled to
            sum to 1 here. Where it never comes, nothing counts.
        demonstrated: f32[...], how often the expert does, likewise.
        divergence: f, one of `divergence.DIVERGENCES` or an `alpha_divergence`.

    Returns:
        Loss of a weight of 1, without metrics.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Ni et al. 2020, arXiv 2011.04709.

    Example:
        >>> from irl_jax.losses.divergence import KL
        >>> round(float(state_matching(jnp.array([1.0, 3.0]), jnp.ones(2), divergence=KL).mean), 4)
        0.1438
    """
    visits = as_float("visits", visits, jnp.shape(visits))
    demonstrated = as_float("demonstrated", demonstrated, visits.shape)
    own, expert = (safe_divide(x, x.sum()) for x in (visits, demonstrated))
    come = own > 0
    ratio = jnp.where(come, expert / jnp.where(come, own, 1.0), 1.0)
    return Loss((own * divergence(ratio)).sum(), jnp.ones((), own.dtype), {})
