"""A discriminator on a decoder: demonstrations are told from samples, rewards are made of it.

Groups hold the policy's completions of a prompt and, last, what was demonstrated; see
`irl_jax.rollout.opponents.with_demonstrations`. A discriminator learns v = log p/q, p the
distribution of demonstrations and q that of the policy, of whole completions or of every token;
the losses and the rewards are those that `irl_jax.recipes.imitation` gives to control.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import group_advantages, whiten
from irl_jax.dynamics.returns import returns
from irl_jax.losses.divergence import discriminator_batch
from irl_jax.masking import masked_mean, masked_sum
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import apply_scalar_head, last_value
from irl_jax.models.logprob import completion_hidden
from irl_jax.rollout.opponents import split_opponents
from irl_jax.train.objectives import Adapt, PolicyBatch
from irl_jax.types import Group, Loss, Objective, Preference, Prompt, PyTree


@dataclass(frozen=True)
class Discriminator:
    """How demonstrations are told from samples, and what a policy is rewarded for.

    Attributes:
        loss: (v f32[N], `Rating`) -> Loss; of pairs, (v f32[N, 2], `Preference`) -> Loss.
        reward: v -> r, elementwise.
        tells: of what v is: a "completion", a "token", or a "pair" of a completion and the
            demonstration of its prompt.
        policy: whether v is g − log π/π_ref with g learned, as in AIRL, or learned whole. Before
            the first update π is π_ref, so that v begins at 0 where g does.
    """

    loss: Callable[..., Loss]
    reward: Callable[[Array], Array]
    tells: Literal["completion", "token", "pair"] = "completion"
    policy: bool = False


def log_ratios(
    config: DecoderConfig, kind: Discriminator, params: PyTree, reference: PyTree, group: Group,
    *, adapt: Adapt,
) -> Array:  # fmt: skip
    """v of a group's completions.

    Args:
        config: the shape.
        kind: of the discriminator.
        params: {"decoder": what `adapt` takes, "head": a scalar head}.
        reference: frozen parameters.
        group: its `logp` is log π/π_ref, nats, and read where v has it in it.
        adapt: how `params["decoder"]` becomes a decoder.

    Returns:
        f32[B, K], nats, 0 for an empty completion; of tokens f32[B, K, T], 0 outside the mask.
        Of pairs, only differences within a prompt mean something.
    """
    decoder = adapt(params["decoder"], reference)
    hidden = completion_hidden(config, decoder, group.context, group.action)
    values = apply_scalar_head(params["head"], hidden)
    logp = jnp.where(group.mask, group.logp, 0.0) if kind.policy else jnp.zeros_like(group.logp)
    if kind.tells == "token":
        return jnp.where(group.mask, values, 0.0) - logp
    return last_value(values, group.mask) - logp.sum(-1)


def discriminator_objective(
    config: DecoderConfig, kind: Discriminator, *, adapt: Adapt
) -> Objective:
    """What a discriminator learns from a group.

    Args:
        config: the shape.
        kind: of the discriminator.
        adapt: as in `log_ratios`.

    Returns:
        `(params, group, key, reference) -> Loss`, the group as in `log_ratios`, the
        demonstration last in it.
    """

    def objective(params: PyTree, group: Group, key: Array, reference: PyTree) -> Loss:
        v = log_ratios(config, kind, params, reference, group, adapt=adapt)
        if kind.tells == "pair":
            pairs = jnp.stack([jnp.broadcast_to(v[:, -1:], v[:, :-1].shape), v[:, :-1]], axis=-1)
            weight = jnp.ones(pairs[..., 0].size)
            return kind.loss(pairs.reshape(-1, 2), Preference.without_tokens(weight))
        counts = group.mask if kind.tells == "token" else group.mask.any(-1)
        shown = jnp.arange(counts.shape[1]) == counts.shape[1] - 1
        shown = jnp.broadcast_to(shown.reshape(-1, *[1] * (counts.ndim - 2)), counts.shape)
        return kind.loss(v.ravel(), discriminator_batch(shown.ravel(), counts.ravel()))

    return objective


def rewards(kind: Discriminator, v: Array, group: Group) -> tuple[Array, dict[str, Array]]:
    """What the policy is rewarded for.

    Args:
        kind: of the discriminator.
        v: of `log_ratios`.
        group: whose completions they are, the demonstration last.

    Returns:
        r, f32[B, K] or of tokens f32[B, K, T], 0 outside the mask; and metrics: `told`, the share
        of samples that are told from the demonstration of their prompt, v(y) < v(y_E), by the
        mean of their tokens (as likely as not counts one half); `reward_policy` and
        `reward_demonstration`, means over completions.
    """
    of_tokens = kind.tells == "token"
    r = kind.reward(v - v[:, -1:] if kind.tells == "pair" else v)
    r = jnp.where(group.mask, r, 0.0) if of_tokens else r
    whole = masked_mean(v, group.mask, axis=-1) if of_tokens else v
    total = masked_sum(r, group.mask, axis=-1) if of_tokens else r
    return r, told_metrics(whole, total)


def told_metrics(v: Array, reward: Array) -> dict[str, Array]:
    """How samples are told from the demonstration, which is last: `told`, as in `rewards`.

    Args:
        v: f32[B, K], of whole completions.
        reward: f32[B, K], whose means are `reward_policy` and `reward_demonstration`.
    """
    return {
        "told": 0.5 * (1.0 + jnp.sign(v[:, -1:] - v[:, :-1])).mean(),
        "reward_policy": reward[:, :-1].mean(),
        "reward_demonstration": reward[:, -1].mean(),
    }


def policy_batch(
    kind: Discriminator, r: Array, group: Group, ref_logp: Array | None = None
) -> PolicyBatch:
    """What a policy learns from: its own completions, and how much better each was.

    Rewards of completions count less the mean of their prompt's, those of tokens as what is to
    come, less its mean over the batch and in its standard deviations. Rewards of completions stay
    in nats: where a discriminator knows nothing yet, nothing is learned from it.

    Args:
        kind: of the discriminator.
        r: of `rewards`.
        group: K completions of each prompt and, last, the demonstration.
        ref_logp: f32[B, K, T], log-probs under the reference (nats), for a KL in the loss.
    """
    count = group.mask.shape[1] - 1
    own, _ = split_opponents(group, count)
    if kind.tells == "token":
        advantage = whiten(returns(r[:, :count], own.mask, discount=1.0), own.mask)
    else:
        advantage = group_advantages(r[:, :count], scale=False)
    return PolicyBatch(own, advantage, ref_logp)


def learned_rewards(
    config: DecoderConfig, kind: Discriminator, params: PyTree, reference: PyTree, context: Prompt,
    action: Array, mask: Array, *, adapt: Adapt,
) -> Array:  # fmt: skip
    """What the head says of completions, whoever wrote them: g of AIRL, else v.

    Args:
        config: the shape.
        kind: of the discriminator.
        params: as in `log_ratios`.
        reference: frozen parameters.
        context: `Prompt` of B rows.
        action: i32[B, K, T].
        mask: bool[B, K, T].
        adapt: as in `log_ratios`.

    Returns:
        f32[B, K], nats; of tokens, their sum.
    """
    absent: Any = None
    group = Group(context, action, mask, jnp.zeros(mask.shape), absent, absent)
    v = log_ratios(config, kind, params, reference, group, adapt=adapt)
    return v.sum(-1) if kind.tells == "token" else v
