"""Direct alignment without a reference policy.

The score of a completion is read off the policy alone: its log-prob, that a token, or
the odds of the latter. These are the objectives of `irl_jax.losses.direct` against a
reference that likes all responses the same; what keeps the policy near where it came
from is a term of likelihood, a margin, or nothing.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.direct import add_likelihood, direct_alignment
from irl_jax.losses.link import Link, ahead_by, logistic
from irl_jax.losses.preference import margin_cost
from irl_jax.losses.scores import alpha_tilt, f_divergence_score, log_ratio, mean_log_ratio
from irl_jax.masking import check_range
from irl_jax.types import Loss, Preference


def cpo(
    logp: Array, batch: Preference, *, beta: float, alpha: float, link: Link = logistic
) -> Loss:
    """Contrastive preference optimisation: DPO against a uniform reference, and imitation.

    L = −log σ(β log π(yʷ|x) − β log π(yˡ|x)) − α log π(yʷ|x).

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        batch: the pairs; `margin` is in units of the reward, all 0 in the paper.
        beta: β > 0 (reward a nat).
        alpha: α >= 0, weight of the likelihood of chosen responses; 1 in the paper.
        link: ℓ in the place of −log σ.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`, and `nll`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Xu et al. 2024, "Contrastive Preference Optimization: Pushing the
    Boundaries of LLM Performance in Machine Translation", arXiv 2401.08417, eq. 5.

    Differs: the likelihood is that of a whole response, as in the equation; TRL takes the mean
    over all chosen tokens of a batch, under which the same α counts less by the length of a
    response and long responses count more.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    loss = direct_alignment(
        logp,
        jnp.zeros_like(logp),
        batch,
        score=lambda *arrays: beta * log_ratio(*arrays),
        cost=margin_cost(link),
    )
    return add_likelihood(loss, logp, batch, coefficient=alpha, score=log_ratio)


def simpo(logp: Array, batch: Preference, *, beta: float, gamma: float) -> Loss:
    """Simple preference optimisation: mean log-probs of tokens, ahead by a margin.

    L = −log σ(β/|yʷ| log π(yʷ|x) − β/|yˡ| log π(yˡ|x) − γ).

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        batch: the pairs; `margin` is added to γ, and all 0 is the paper's objective.
        beta: β > 0 (reward a nat a token).
        gamma: γ >= 0, in units of the reward.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Meng, Xia & Chen 2024, "SimPO: Simple Preference Optimization with a
    Reference-Free Reward", arXiv 2405.14734, eq. 6.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    check_range("gamma", gamma, 0.0)
    return direct_alignment(
        logp,
        jnp.zeros_like(logp),
        batch,
        score=lambda *arrays: beta * mean_log_ratio(*arrays),
        cost=margin_cost(ahead_by(logistic, gamma)),
    )


def alphapo(logp: Array, batch: Preference, *, beta: float, gamma: float, alpha: float) -> Loss:
    """SimPO whose log-probs are bent, as f-DPO bends log-ratios.

    L = −log σ(r(yʷ) − r(yˡ) − γ), r(y) = β (1 − π(y|x)^(−α/|y|)) / α; `simpo` at α = 0.

    Args:
        logp: f32[B, 2, T], as in `simpo`.
        batch: the pairs; `margin` is added to γ.
        beta: β > 0.
        gamma: γ >= 0, in units of the reward.
        alpha: α; above 0, what is already likely is pushed less.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Gupta et al. 2025, "AlphaPO: Reward Shape Matters for LLM Alignment", arXiv
    2501.03884.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    check_range("gamma", gamma, 0.0)
    bent = f_divergence_score(alpha_tilt(alpha), mean_log_ratio)
    return direct_alignment(
        logp,
        jnp.zeros_like(logp),
        batch,
        score=lambda *arrays: beta * bent(*arrays),
        cost=margin_cost(ahead_by(logistic, gamma)),
    )


def orpo(logp: Array, batch: Preference, *, lam: float) -> Loss:
    """Odds-ratio preference optimisation: fine-tuning on the chosen, away from the rejected.

    L = −1/|yʷ| log π(yʷ|x) − λ log σ(log odds(yʷ|x) − log odds(yˡ|x)), with
    odds = P / (1 − P) of P(y|x) = π(y|x)^(1/|y|).

    Args:
        logp: f32[B, 2, T], as in `simpo`.
        batch: the pairs; `margin` is in log-odds, and all 0 is the paper's objective.
        lam: λ >= 0, weight of the odds ratio.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment` for the log-odds, and `nll`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Hong, Lee & Thorne 2024, "ORPO: Monolithic Preference Optimization without
    Reference Model", arXiv 2403.07691, eq. 4-7.

    Differs: P counts as at most 1 − 1e-6, so that the odds are finite. The likelihood is the
    mean over a response's tokens, then over responses, as in the equations; the authors' code
    and TRL take the mean over all chosen tokens of a batch, so that long responses count more.
    """
    check_range("lam", lam, 0.0)

    def log_odds(*arrays: Array) -> Array:
        mean = jnp.minimum(mean_log_ratio(*arrays), -1e-6)
        return mean - jnp.log(-jnp.expm1(mean))

    loss = direct_alignment(
        logp,
        jnp.zeros_like(logp),
        batch,
        score=log_odds,
        cost=margin_cost(lambda z: lam * logistic(z)),
    )
    return add_likelihood(loss, logp, batch, coefficient=1.0, score=mean_log_ratio)
