"""Rewards that stay language models: text losses on the hidden states a reward is read from.

A reward head alone bends the hidden states to the comparisons at hand. Where the language
model's own head is kept on the same states and goes on learning to write, they stay of use
on other prompts. The text loss is of the same pairs: `chosen_likelihood` in `grm_sft`, DPO
without a reference in `grm_dpo`, or another by `mix`.

Reference: Yang et al. 2024, "Regularizing Hidden States Enables Learning Generalizable
Reward Model for LLMs", arXiv 2406.10216.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.direct import dpo
from irl_jax.losses.link import logistic
from irl_jax.losses.preference import bradley_terry, pairwise_loss
from irl_jax.losses.scores import log_ratio
from irl_jax.masking import as_float, check_mask, check_range, check_shape
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


def grm_sft(
    reward: Array,
    logp: Array,
    batch: Preference,
    *,
    alpha: float,
    beta: float,
    label_smoothing: float = 0.0,
    centering: float = 0.0,
) -> Loss:
    """A Bradley-Terry reward whose decoder goes on learning to write the chosen responses.

    L = (1 − α) L_BT(r) − α log σ(β log π(yʷ|x)).

    Args:
        reward: r, f32[B, 2], rewards of the pair; index 0 is the chosen response.
        logp: f32[B, 2, T], log-probs of the completions under the language model that shares
            the reward's hidden states (nats).
        batch: the pairs; `margin` is in units of the reward.
        alpha: α in [0, 1], share of the text loss.
        beta: β > 0.
        label_smoothing: of `bradley_terry`.
        centering: of `bradley_terry`.

    Returns:
        Loss a pair (nats), with the metrics of `mix`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Yang et al. 2024, arXiv 2406.10216 (SFT regularisation).

    Differs: the paper's reward loss is neither smoothed nor centred.
    """
    text = chosen_likelihood(logp, batch, beta=beta)
    check_shape("reward", reward, (logp.shape[0], 2))
    loss = bradley_terry(reward, batch, label_smoothing=label_smoothing, centering=centering)
    return mix(loss, text, alpha=alpha)


def grm_dpo(
    reward: Array,
    logp: Array,
    batch: Preference,
    *,
    alpha: float,
    beta: float,
    label_smoothing: float = 0.0,
    centering: float = 0.0,
) -> Loss:
    """A Bradley-Terry reward whose decoder is tuned by DPO without a reference beside it.

    L = (1 − α) L_BT(r) − α log σ(β log π(yʷ|x) − β log π(yˡ|x)).

    Args:
        reward: r, f32[B, 2], rewards of the pair; index 0 is the chosen response.
        logp: f32[B, 2, T], log-probs of the completions under the language model that shares
            the reward's hidden states (nats).
        batch: the pairs; `margin` is in units of the reward, and the text loss has none.
        alpha: α in [0, 1], share of the text loss.
        beta: β > 0, reward a nat.
        label_smoothing: of `bradley_terry`.
        centering: of `bradley_terry`.

    Returns:
        Loss a pair (nats), with the metrics of `mix`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Yang et al. 2024, arXiv 2406.10216 (DPO regularisation without a reference).

    Differs: the paper's reward loss is neither smoothed nor centred.
    """
    plain = replace(batch, margin=jnp.zeros_like(batch.margin))
    text = dpo(logp, jnp.zeros_like(logp), plain, beta=beta)
    check_shape("reward", reward, (logp.shape[0], 2))
    loss = bradley_terry(reward, batch, label_smoothing=label_smoothing, centering=centering)
    return mix(loss, text, alpha=alpha)
