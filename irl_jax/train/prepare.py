"""What an online method learns from a judged group: each makes a `prepare` of `train_online`.

    method       rollout                              prepare                  objective
    GRPO, RLOO   generate                             PolicyBatch(group, A(r)) policy_objective
    ReMax        with_opponents(…, greedy)            remax                    policy_objective
    OTB          generate                             token_baseline           policy_objective
    Nash-MD      with_opponents(…, mixture)           nash_md(…, tau=)         policy_objective
    online DPO   generate, K = 2                      sampled_pair             direct_objective
    XPO          with_opponents(…, the reference's)   exploring_pair           direct_objective
    SPPO         generate                             self_play                direct_objective

They are functions of arrays; the loop calls `prepare(group, context)`:

    prepare=lambda group, context: exploring_pair(group, context.key)

The rollouts are written out in `irl_jax.rollout.opponents`; `sampled_pair` and, for a judge
without noise, `best_and_worst` are in `irl_jax.rollout.pairs`; the losses are `reinforce`,
`dpo`, `xpo` and `sppo`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import (
    baseline_advantages,
    nash_advantages,
    optimal_token_baseline,
)
from irl_jax.masking import as_float, masked_sum
from irl_jax.rollout.opponents import split_opponents
from irl_jax.rollout.pairs import best_and_worst, first_wins, in_order, win_probability, win_rate
from irl_jax.train.objectives import Extended, PolicyBatch
from irl_jax.types import Group

# a policy's own completions and their opponents -> P(y ≻ y'), f32[B, K, J]
Prefer = Callable[[Group, Group], Array]


def remax(group: Group, ref_logp: Array | None = None) -> PolicyBatch:
    """ReMax: the reward of a greedy completion is the baseline of the others.

    Aᵢ = rᵢ − r(greedy). The greedy completion is not learned from: it is in no batch.

    Args:
        group: K completions of each prompt and, last, the greedy one, all rewarded; see
            `irl_jax.rollout.opponents`.
        ref_logp: f32[B, K, T] or f32[B, K + 1, T], log-probs under the reference policy
            (nats), for a penalty on the KL in the loss.

    Returns:
        The K completions, with advantages f32[B, K], for `losses.policy.reinforce`.

    Reference: Li et al. 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement
    Learning Method for Aligning Large Language Models", arXiv 2310.10505, algorithm 1.
    """
    own, greedy = split_opponents(group, group.mask.shape[1] - 1)
    advantage = baseline_advantages(own.reward, greedy.reward[:, 0])
    return PolicyBatch(own, advantage, None if ref_logp is None else _of_own(own, ref_logp))


def token_baseline(
    group: Group, log_collision: Array, ref_logp: Array | None = None
) -> PolicyBatch:
    """The optimal token baseline: of each token, against the others of its group.

    Args:
        group: K completions of each prompt, rewarded.
        log_collision: f32[B, K, T], log Σᵥ π(v)² of the policy that sampled.
        ref_logp: f32[B, K, T], as in `remax`.

    Returns:
        The completions, with advantages f32[B, K, T], for `losses.policy.reinforce`.

    Reference: Li et al. 2026, arXiv 2602.07078.
    """
    to_go = jnp.where(group.mask, group.reward[..., None], 0.0)
    advantage = optimal_token_baseline(to_go, group.logp, log_collision, group.mask)
    return PolicyBatch(group, advantage, ref_logp)


def by_reward(own: Group, opponents: Group) -> Array:
    """`Prefer`: P(y ≻ y') = σ(r(y) − r(y')), the Bradley-Terry model of the group's rewards."""
    return win_probability(own.reward, opponents.reward)


def nash_md(
    group: Group, ref_logp: Array, *, opponents: int, tau: float | Array, prefer: Prefer = by_reward
) -> PolicyBatch:
    """Nash-MD-PG: the policy learns to be preferred to a mixture of itself and the reference.

    Args:
        group: completions of each prompt that the policy wrote and, last, those of its
            opponent, a `MixtureGuide`; see `irl_jax.rollout.opponents`.
        ref_logp: f32[B, K, T] of the policy's own completions, or of all of the group,
            log-probs under the reference policy (nats).
        opponents: J, how many of the completions of a prompt are the opponent's.
        tau: τ, weight of the KL penalty (probability a nat).
        prefer: (own, opponents) -> P(y ≻ y'), f32[B, K, J]; a preference need not come from
            rewards, nor be transitive.

    Returns:
        The K completions of the policy, with advantages of `nash_advantages`, for
        `losses.policy.reinforce`.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback", arXiv 2312.00886
    (Nash-MD-PG).
    """
    own, others = split_opponents(group, group.mask.shape[1] - opponents)
    ref_logp = _of_own(own, ref_logp)
    ratio = masked_sum(own.logp - ref_logp, own.mask, axis=-1)
    return PolicyBatch(own, nash_advantages(prefer(own, others), ratio, tau=tau), ref_logp)


def exploring_pair(group: Group, key: Array) -> Extended:
    """XPO: a pair of a completion of the policy and one of the reference, and which is which.

    Args:
        group: of each prompt a completion of the policy and one of the reference,
            rewarded; see `irl_jax.rollout.opponents`.
        key: of the judge, see `rollout.pairs.sampled_pair`; in the loop, `context.key`.

    Returns:
        A `Preference` with `explore` bool[B, 2], for `losses.direct_variants.xpo`.

    Reference: Xie et al. 2024, arXiv 2405.21046, algorithm 1.
    """
    first = first_wins(group, key)
    return Extended(in_order(group, first), {"explore": jnp.stack([~first, first], axis=1)})


def self_play(group: Group) -> Extended:
    """SPPO: the best and the worst of a policy's completions, and what they win against all.

    Args:
        group: K >= 2 completions of each prompt, rewarded.

    Returns:
        A `Preference` with `win` f32[B, 2] of `rollout.pairs.win_rate`, for
        `losses.direct_variants.sppo`, whose reference is the policy that wrote the group.

    Reference: Wu et al. 2024, arXiv 2405.00675, algorithm 1.
    """
    win = win_rate(group.reward)
    return Extended(best_and_worst(group), {"win": jnp.stack([win.max(1), win.min(1)], axis=1)})


def _of_own(own: Group, ref_logp: Array) -> Array:
    """Log-probs of the first completions, among those of all."""
    b, k, t = own.mask.shape
    return as_float("ref_logp", ref_logp, (b, None, t))[:, :k]
