"""Direct alignment: the policy is its own reward model.

The optimal policy of max E[r] − β KL(π‖π_ref) satisfies
r(x, y) = β log π(y|x) / π_ref(y|x) + β log Z(x), and Z cancels within a pair. So an
objective here is a score of completions, read off the policy, under a loss of pairs:

    score (`irl_jax.losses.scores`)     cost of a pair
    `log_ratio`                         link(β (score of chosen − score of rejected) − margin)
    `mean_log_ratio`                    or any function of the two sides
    `ld_dpo_score(alpha)`
    `f_divergence_score(f')`

with a term of likelihood in some (`add_likelihood`), and weights of pairs in others.
Objectives without a reference score by a reference that likes all responses the same
(`irl_jax.losses.reference_free`); those of responses without a pair are in
`irl_jax.losses.unpaired`, of more than two in `irl_jax.losses.listwise`, of the
distributions of both sides in `irl_jax.losses.transport`. `dpo` under other links and scores
(SLiC-HF, cDPO, robust DPO, ROPO, EXO, DiscoPOP, LD-DPO, f-DPO, length-normalised DPO) has its
papers' names in `irl_jax.losses.direct_named`. Three are a way to train by the same losses:

    SPIN          `dpo`, the opponent as the reference
    online DPO    `dpo`, pairs of `rollout.pairs.sampled_pair` (see `train.prepare`)
    TR-DPO        any, the reference moved by optax.incremental_update (soft) or
                  optax.periodic_update (hard; arXiv 2404.09656)
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic, square
from irl_jax.losses.preference import Cost, margin_cost, pairwise_loss
from irl_jax.losses.reduction import weighted
from irl_jax.losses.scores import Score, log_ratio
from irl_jax.masking import as_float, check_mask, check_range, masked_sum
from irl_jax.types import Loss, Preference


def direct_alignment(
    logp: Array, ref_logp: Array, batch: Preference, *, score: Score, cost: Cost
) -> Loss:
    """The form of every objective of pairs here: a score of completions under a cost of pairs.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs.
        score: (logp, ref_logp, mask) -> implicit rewards f32[B, 2].
        cost: of the rewards of the two sides and the margins.

    Returns:
        Loss a pair. Metrics: those of `pairwise` for the implicit reward, and
        `logp_chosen`, `logp_rejected`, nats a completion.

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    logp = as_float("logp", logp, (None, 2, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    loss = pairwise_loss(score(logp, ref_logp, batch.mask), batch, cost)
    completion = masked_sum(logp, batch.mask, axis=-1)
    metrics = {
        "logp_chosen": weighted(completion[:, 0], weight),
        "logp_rejected": weighted(completion[:, 1], weight),
    }
    return replace(loss, metrics={**loss.metrics, **metrics})


def add_likelihood(
    loss: Loss, logp: Array, batch: Preference, *, coefficient: float, score: Score
) -> Loss:
    """L − α log π(yʷ|x): a loss of pairs and the likelihood of their chosen responses.

    Args:
        loss: of the same pairs.
        logp: f32[B, 2, T], as in `direct_alignment`.
        batch: the pairs.
        coefficient: α >= 0.
        score: `log_ratio`, or `mean_log_ratio` to divide by the length of the response.

    Returns:
        Loss a pair, with one metric more: `nll`, that of the chosen response before
        its coefficient.

    Raises:
        InputError: a number is out of range.
    """
    check_range("coefficient", coefficient, 0.0)
    logp = as_float("logp", logp, (None, 2, None))
    likelihood = score(logp, jnp.zeros_like(logp), batch.mask)[:, 0]
    nll = weighted(-likelihood, as_float("batch.weight", batch.weight, logp.shape[:1]))
    metrics = {**loss.metrics, "nll": nll}
    return replace(loss, total=loss.total + coefficient * nll[0], metrics=metrics)


def dpo(
    logp: Array,
    ref_logp: Array,
    batch: Preference,
    *,
    beta: float,
    link: Link = logistic,
    score: Score = log_ratio,
) -> Loss:
    """Direct preference optimisation.

    L = ℓ(β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x) − m), the mean over
    pairs, with ℓ(z) = −log σ(z) in the paper.

    With the opponent of a game of self-play as the reference, demonstrations as yʷ and
    the opponent's own samples as yˡ, this is SPIN (eq. 4.7 there): where the opponent
    writes like people, the expected gradient at π = π_ref is 0, and the play rests.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs; `margin` m is in units of the implicit reward, and all 0
            is the paper's objective.
        beta: β > 0, strength of the KL penalty that is implied (reward a nat).
        link: ℓ; `irl_jax.losses.direct_named` has other papers' choices.
        score: what stands for log π(y|x)/π_ref(y|x).

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment` for the reward β times the score.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Rafailov et al. 2023, "Direct Preference Optimization: Your Language
    Model is Secretly a Reward Model", arXiv 2305.18290, eq. 7; Amini et al. 2024, arXiv
    2402.10571 (margin); Chen et al. 2024, "Self-Play Fine-Tuning Converts Weak Language
    Models to Strong Language Models", arXiv 2401.01335, eq. 4.7.

    Example:
        >>> logp = jnp.zeros([1, 2, 3])
        >>> pairs = Preference(
        ...     None,
        ...     action=jnp.zeros([1, 2, 3], jnp.int32),
        ...     mask=jnp.ones([1, 2, 3], bool),
        ...     margin=jnp.zeros(1),
        ...     weight=jnp.ones(1),
        ... )
        >>> round(float(dpo(logp, logp, pairs, beta=0.1).mean), 4)  # log 2 at the reference
        0.6931
    """
    check_range("beta", beta, 0.0, exclusive=True)
    reward: Score = lambda *arrays: beta * score(*arrays)
    return direct_alignment(logp, ref_logp, batch, score=reward, cost=margin_cost(link))


def ipo(
    logp: Array, ref_logp: Array, batch: Preference, *, tau: float, score: Score = log_ratio
) -> Loss:
    """Identity preference optimisation: the gap of a pair is to be 1 / (2τ), no more.

    L = (log π(yʷ|x)/π_ref(yʷ|x) − log π(yˡ|x)/π_ref(yˡ|x) − m − 1/(2τ))². Labels without
    noise do not drive the gap to infinity, as they do under `dpo`.

    Args:
        logp: f32[B, 2, T], as in `dpo`.
        ref_logp: f32[B, 2, T], as in `dpo`.
        batch: the pairs; `margin` m is in nats, and all 0 is the paper's objective.
        tau: τ > 0, strength of the KL penalty that is implied.
        score: what stands for log π(y|x)/π_ref(y|x); `mean_log_ratio` is the variant
            of TRL and of the authors' experiments.

    Returns:
        Loss a pair (nats²), with the metrics of `direct_alignment` for the score.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning
    from Human Preferences", arXiv 2310.12036, eq. 17.
    """
    check_range("tau", tau, 0.0, exclusive=True)
    return direct_alignment(logp, ref_logp, batch, score=score, cost=margin_cost(square(0.5 / tau)))
