"""Ways to align a policy: what a batch is, and which objective learns from it.

A method knows no task: one table serves the sandbox's decoders, trained whole, and a language
model under a LoRA. `offline` makes a `Method` of a loss of comparisons in one line, `online` of
a policy gradient, `compared` of a loss of comparisons that are made of the policy's samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.losses.policy import reinforce
from irl_jax.losses.ratio import k2
from irl_jax.masking import masked_sum
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.logprob import completion_logp_collision
from irl_jax.rollout.guide import MixtureGuide
from irl_jax.rollout.opponents import Rollout, with_opponents
from irl_jax.rollout.pairs import in_twos, sampled_pair
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.actor_critic import ppo_objective, valued, values
from irl_jax.train.objectives import (
    Adapt,
    PolicyBatch,
    PolicyLoss,
    direct_objective,
    policy_objective,
)
from irl_jax.train.prepare import nash_md as nash_md_batch
from irl_jax.train.prepare import remax as against_greedy
from irl_jax.types import Group, Objective, Preference, PyTree

SAMPLING = Sampling(temperature=1.0)

# rewarded samples, reference log-probs f32[B, K, T], the critic's values f32[B, K, T] (or what
# stands in their place) or None,
# strength, key -> batch
Prepare = Callable[[Group, Any, Any, Any, Array], Any]


@dataclass(frozen=True)
class Beside:
    """What is sampled beside a policy's own completions, and not learned from.

    Attributes:
        count: of the completions of each prompt, how many; they come last.
        how: (shape of the decoder, reference parameters) -> `temperature` or `guides`.
        by_reference: whether the reference policy writes them.
    """

    count: int
    how: Callable[[DecoderConfig, PyTree], dict[str, Any]] = lambda shape, reference: {}
    by_reference: bool = False


@dataclass(frozen=True)
class Method:
    """A way to align a policy, any decoder or a LoRA on one.

    Attributes:
        objective: (shape of the decoder, how what is trained becomes one, strength) ->
            Objective.
        prepare: makes the batch of the objective from samples; None to learn from
            comparisons.
        strengths: of the pull to the reference (β, τ), in the method's own units.
        critic: whether a scalar head is trained with the policy.
        beside: what else is sampled, if anything.
        compares: whether the objective itself runs the reference, as direct losses do; then
            its batch takes no log-probs under the reference.
        collides: `prepare` is given log Σᵥ π(v)² of the policy in place of a critic's values, at
            the temperature of these samples; see `dynamics.advantages.optimal_token_baseline`.
    """

    objective: Callable[[DecoderConfig, Adapt, Any], Objective]
    prepare: Prepare | None
    strengths: tuple[float, ...]
    critic: bool = False
    beside: Beside | None = None
    compares: bool = False
    collides: Sampling | None = None

    def start(self, shape: DecoderConfig, policy: PyTree, key: Array) -> PyTree:
        """Parameters before the first update: the policy's, and those of a critic."""
        if not self.critic:
            return policy
        head = init_scalar_head(key, shape.d_model)
        return {"policy": policy, "critic": {"head": jax.tree.map(jnp.zeros_like, head)}}

    def policy(self, params: PyTree) -> PyTree:
        """What the policy is made of among the parameters."""
        return params["policy"] if self.critic else params

    def batch(
        self, shape: DecoderConfig, adapt: Adapt, params: PyTree, reference: PyTree,
        group: Group, ref_logp: Array | None, strength: Array | None, key: Array,
    ) -> Any:  # fmt: skip
        """What the objective learns from, of rewarded samples; see `prepare`."""
        assert self.prepare is not None
        value = values(shape, params, reference, group, adapt=adapt) if self.critic else None
        if self.collides is not None:
            _, value = completion_logp_collision(
                shape, adapt(params, reference), group.context, group.action,
                temperature=self.collides.temperature,
            )  # fmt: skip
        return self.prepare(group, ref_logp, value, strength, key)


def rollout_of(
    sample: Callable[..., Group], beside: Beside | None, completions: int,
    shape: DecoderConfig, reference: PyTree,
) -> Rollout:  # fmt: skip
    """The rollout of a method: as many completions for each method, whatever they are for.

    Args:
        sample: (params, prompts, key, *, completions, and what `Beside.how` gives) -> Group.
        beside: of the method.
        completions: of each prompt in all.
        shape: of the decoder.
        reference: parameters of the reference policy.
    """
    if beside is None:
        return partial(sample, completions=completions)
    own = partial(sample, completions=completions - beside.count)
    others = partial(sample, completions=beside.count, **beside.how(shape, reference))
    if beside.by_reference:
        return with_opponents(own, lambda params, *rest: others(reference, *rest))
    return with_opponents(own, others)


def offline(
    objective: Callable[..., Objective], loss: Callable[[Any], Any], strengths: tuple[float, ...]
) -> Method:
    """A method that learns from comparisons.

    Args:
        objective: `direct_objective` or another that takes (shape, adapt, loss).
        loss: strength -> the loss.
        strengths: see `Method`.
    """
    make = lambda shape, adapt, strength: objective(shape, adapt, loss(strength))
    return Method(make, None, strengths, compares=True)


def online(
    loss: Callable[[Any], Any],
    advantage: Callable[[Array], Array],
    strengths: tuple[float, ...],
    sampling: Sampling = SAMPLING,
) -> Method:
    """A method that learns from its samples, its penalty on KL in the loss.

    Args:
        loss: strength -> the loss, one of `losses.policy`.
        advantage: rewards f32[B, K] -> f32[B, K].
        strengths: see `Method`.
        sampling: how completions are drawn.
    """

    def prepare(
        group: Group, ref_logp: Array, value: None, strength: Array, key: Array
    ) -> PolicyBatch:
        return PolicyBatch(group, advantage(group.reward), ref_logp)

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, loss(strength), sampling=sampling
    )
    return Method(objective, prepare, strengths)


def policy_gradient(
    loss: PolicyLoss, advantage: Callable[[Array], Array], sampling: Sampling
) -> Method:
    """`online` with one loss, whose hyper-parameters are its own: it reads no strength.

    Args:
        loss: one of `losses.policy` with its hyper-parameters.
        advantage: rewards f32[B, K] -> f32[B, K].
        sampling: how completions are drawn.
    """
    return online(lambda strength: loss, advantage, (), sampling)


def compared(loss: Callable[[Any], Any], strengths: tuple[float, ...]) -> Method:
    """Online DPO and its kin: a loss of pairs of its own samples, which a judge compares.

    The judge is a Bradley-Terry one by the reward, as the annotator of offline methods is by
    gold; of K completions of a prompt it is shown K / 2 pairs.

    Args:
        loss: strength -> the loss, one of `losses.direct`.
        strengths: see `Method`.
    """

    def prepare(
        group: Group, ref_logp: Array, value: None, strength: Array, key: Array
    ) -> Preference:
        return sampled_pair(in_twos(group), key)

    objective = lambda shape, adapt, strength: direct_objective(shape, adapt, loss(strength))
    return Method(objective, prepare, strengths, compares=True)


def remax(strengths: tuple[float, ...], sampling: Sampling = SAMPLING) -> Method:
    """ReMax of completions drawn by `sampling`, its penalty on KL in the loss."""

    def prepare(
        group: Group, ref_logp: Array, value: None, strength: Array, key: Array
    ) -> PolicyBatch:
        return against_greedy(group, ref_logp)

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, partial(reinforce, beta=strength, kl=k2), sampling=sampling
    )
    greedy = Beside(1, lambda shape, reference: {"temperature": 0.0})
    return Method(objective, prepare, strengths, beside=greedy)


def nash_md(
    strengths: tuple[float, ...], *, share: float, opponents: int, sampling: Sampling = SAMPLING
) -> Method:
    """Nash-MD, its preferences those of a Bradley-Terry judge by the reward.

    Args:
        strengths: see `Method`; τ, probability a nat.
        share: of the reference in the opponent.
        opponents: completions of each prompt by the opponent.
        sampling: how completions are drawn.
    """

    def prepare(
        group: Group, ref_logp: Array, value: None, strength: Array, key: Array
    ) -> PolicyBatch:
        return nash_md_batch(group, ref_logp, opponents=opponents, tau=strength)

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, reinforce, sampling=sampling
    )
    mixture = Beside(
        opponents, lambda shape, reference: {"guides": (MixtureGuide(shape, reference, share),)}
    )
    return Method(objective, prepare, strengths, beside=mixture)


def rloo(strengths: tuple[float, ...]) -> Method:
    """RLOO, its penalty on KL in the reward, as in the paper."""

    def prepare(
        group: Group, ref_logp: Array, value: None, strength: Array, key: Array
    ) -> PolicyBatch:
        ratio = masked_sum(group.logp - ref_logp, group.mask, axis=-1)
        return PolicyBatch(group, leave_one_out(group.reward - strength * ratio))

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, reinforce, sampling=SAMPLING
    )
    return Method(objective, prepare, strengths)


def actor_critic(
    strengths: tuple[float, ...], *, sampling: Sampling = SAMPLING, **keywords: Any
) -> Method:
    """PPO with a critic on the policy's hidden states, its penalty on KL in the reward.

    Args:
        strengths: see `Method`.
        sampling: how completions are drawn.
        **keywords: of `ppo_objective`.
    """

    def prepare(group: Group, ref_logp: Array, value: Array, strength: Array, key: Array) -> Any:
        return valued(group, value, ref_logp, beta=strength)

    objective = lambda shape, adapt, strength: ppo_objective(
        shape, adapt, sampling=sampling, **keywords
    )
    return Method(objective, prepare, strengths, critic=True)
