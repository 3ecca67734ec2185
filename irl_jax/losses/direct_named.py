"""DPO under other links and other scores, by the names of their papers.

Each is `dpo` with one part changed: the loss ℓ(z) of a pair whose implicit rewards differ by
z (`irl_jax.losses.link`), or the score of a completion (`irl_jax.losses.scores`). In all of
them z = β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x) − m, logp and ref_logp are
f32[B, 2, T], and `Returns` and `Raises` are those of `dpo`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.direct import dpo
from irl_jax.losses.direct_variants import rpo, sppo
from irl_jax.losses.link import (
    discopop_link,
    exo_link,
    hinge,
    logistic,
    ropo_link,
    smooth,
    unbiased,
)
from irl_jax.losses.scores import (
    alpha_tilt,
    f_divergence_score,
    jensen_shannon_tilt,
    ld_dpo_score,
    log_ratio,
    mean_log_ratio,
)
from irl_jax.types import Loss, Preference


def slic(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """SLiC-HF's hinge on DPO's reward, L = max(0, 1 − z): a pair that is ahead by 1 rests.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.

    Reference: Zhao et al. 2023, "SLiC-HF: Sequence Likelihood Calibration with Human
    Feedback", arXiv 2305.10425, eq. 1; Liu et al. 2023, "Statistical Rejection Sampling
    Improves Preference Optimization", arXiv 2309.06657 (on DPO's implicit reward).
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=hinge)


def cdpo(
    logp: Array, ref_logp: Array, batch: Preference, *, beta: float, label_smoothing: float
) -> Loss:
    """Conservative DPO, L = −(1 − ε) log σ(z) − ε log σ(−z): a label is wrong at rate ε.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        label_smoothing: ε in [0, 0.5].

    Reference: Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO".
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=smooth(logistic, label_smoothing))


def robust_dpo(
    logp: Array, ref_logp: Array, batch: Preference, *, beta: float, flip_rate: float
) -> Loss:
    """Provably robust DPO, L = (−(1 − ε) log σ(z) + ε log σ(−z)) / (1 − 2ε).

    Its mean over flips of the labels at rate ε is the DPO loss of the clean labels.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        flip_rate: ε in [0, 0.5).

    Reference: Chowdhury et al. 2024, "Provably robust DPO", arXiv 2403.00409.
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=unbiased(logistic, flip_rate))


def ropo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float) -> Loss:
    """Robust preference optimisation, L = 4α / (1 + α)² (−log σ(z) + α σ(−z)).

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        alpha: α > 1, weight of the part that tolerates flipped labels.

    Reference: Liang et al. 2024, "ROPO: Robust Preference Optimization for Large Language
    Models", arXiv 2404.04102.
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=ropo_link(alpha))


def exo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, epsilon: float) -> Loss:
    """Efficient exact optimisation, L = KL((σ(z), σ(−z)) ‖ (1 − ε, ε)): it seeks the mode.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        epsilon: ε in (0, 0.5], the chance that the label is wrong.

    Reference: Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model
    Alignment", arXiv 2402.00856, eq. 16.
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=exo_link(epsilon))


def discopop(
    logp: Array, ref_logp: Array, batch: Preference, *, beta: float, temperature: float
) -> Loss:
    """DiscoPOP, L = −(1 − σ(z/τ)) log σ(z) + σ(z/τ) exp(−z).

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        temperature: τ > 0; 0.05 in the paper.

    Reference: Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for
    Large Language Models", arXiv 2406.08414, eq. 5 (log-ratio modulated loss).
    """
    return dpo(logp, ref_logp, batch, beta=beta, link=discopop_link(temperature))


def ld_dpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float) -> Loss:
    """Length-desensitised DPO, L = −log σ(z): tokens beyond the shorter side count α.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        alpha: α in [0, 1]; 1 is DPO.

    Reference: Liu et al. 2024, "Length Desensitization in Direct Preference
    Optimization", arXiv 2409.06411.
    """
    return dpo(logp, ref_logp, batch, beta=beta, score=ld_dpo_score(alpha))


def f_dpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float) -> Loss:
    """DPO regularised by an α-divergence: f'(u) = (1 − u^−α) / α in place of log u.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, strength of the divergence.
        alpha: α; 0 is DPO (reverse KL), 1 the forward KL.

    Reference: Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
    Optimization with Diverse Divergence Constraints", arXiv 2309.16240, table 1.
    """
    score = f_divergence_score(alpha_tilt(alpha), log_ratio)
    return dpo(logp, ref_logp, batch, beta=beta, score=score)


def js_dpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """DPO regularised by the Jensen-Shannon divergence: f'(u) = log(2u / (1 + u)) for log u.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, strength of the divergence.

    Reference: Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
    Optimization with Diverse Divergence Constraints", arXiv 2309.16240, table 1.
    """
    score = f_divergence_score(jensen_shannon_tilt, log_ratio)
    return dpo(logp, ref_logp, batch, beta=beta, score=score)


def ln_dpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """Length-normalised DPO, L = −log σ(z) on log-ratios divided by the length.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat a token; larger than DPO's.

    Reference: Lambert et al. 2024, "Tulu 3: Pushing Frontiers in Open Language Model
    Post-Training", arXiv 2411.15124 (length-normalised DPO).
    """
    return dpo(logp, ref_logp, batch, beta=beta, score=mean_log_ratio)


def irpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float) -> Loss:
    """Iterative reasoning preference optimisation, L = −log σ(z) − α/|yʷ| log π(yʷ|x).

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs.
        beta: β > 0, reward a nat.
        alpha: α >= 0; 1 in the paper.

    Reference: Pang et al. 2024, "Iterative Reasoning Preference Optimization", arXiv
    2404.19733, eq. 1.
    """
    return rpo(logp, ref_logp, batch, beta=beta, alpha=alpha, likelihood=mean_log_ratio)


def sppo_hard(logp: Array, ref_logp: Array, batch: Preference, *, eta: float) -> Loss:
    """SPPO of labels, L = (c − η/2)² + (r + η/2)²: the chosen response always wins.

    c and r are log π/π_ref of the two sides.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs; the margin is not read.
        eta: η > 0, 1/β of TRL.

    Reference: Wu et al. 2024, arXiv 2405.00675, eq. 4.7, with the win rates 1 and 0.
    """
    win = jnp.tile(jnp.array([1.0, 0.0]), (jnp.shape(logp)[0], 1))
    return sppo(logp, ref_logp, batch, win=win, eta=eta)
