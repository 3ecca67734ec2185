"""Rewards that stay language models: text losses on the hidden states a reward is read from.

A reward head alone bends the hidden states to the comparisons at hand. Where the language
model's own head is kept on the same states and goes on learning to write, they stay of use
on other prompts. The text loss is of the same pairs: `chosen_likelihood`,
`losses.direct.dpo`, or `dpo` with `ref_logp` of zeros, which needs no reference;
`train.objectives.regularised_reward_objective` puts a decoder with two heads under both.

Reference: Yang et al. 2024, "Regularizing Hidden States Enables Learning Generalizable
Reward Model for LLMs", arXiv 2406.10216.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import logistic
from irl_jax.losses.preference import pairwise_loss
from irl_jax.losses.scores import log_ratio
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Preference


def chosen_likelihood(logp: Array, batch: Preference, *, beta: float) -> Loss:
    """The likelihood of the chosen response under DPO's link: it is learned less as it is known.

    L = −log σ(β log π(yʷ|x)), `losses.direct.dpo` without a reference and without the
    rejected side.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the language model that
            shares the reward's hidden states (nats); index 0 is the chosen response.
        batch: the pairs; the margin is not read.
        beta: β > 0.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise` for β log π(y|x).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Yang et al. 2024, arXiv 2406.10216 (SFT regularisation).
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, 2, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    reward = beta * log_ratio(logp, jnp.zeros_like(logp), batch.mask)
    return pairwise_loss(reward, batch, lambda chosen, rejected, m: logistic(chosen))


def mix(reward_loss: Loss, text_loss: Loss, *, alpha: float) -> Loss:
    """Two losses of the same examples, L = (1 − α) L_reward + α L_text.

    Args:
        reward_loss: of rewards; its weight is kept.
        text_loss: of the same examples in the same weights, such as `chosen_likelihood`
            or `dpo` of the same pairs.
        alpha: α in [0, 1], share of the text loss.

    Returns:
        Loss in units of both, with the metrics of the first, and those of the second
        under `text_NAME`; `reward_loss` and `text_loss`, the two before they are mixed.

    Raises:
        InputError: a number is out of range.

    Reference: Yang et al. 2024, arXiv 2406.10216.
    """
    check_range("alpha", alpha, 0.0, 1.0)
    metrics = {
        **reward_loss.metrics,
        **{f"text_{name}": value for name, value in text_loss.metrics.items()},
        "reward_loss": (reward_loss.total, reward_loss.weight),
        "text_loss": (text_loss.total, text_loss.weight),
    }
    total = (1.0 - alpha) * reward_loss.total + alpha * text_loss.total
    return Loss(total, reward_loss.weight, metrics)
