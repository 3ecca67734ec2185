"""Ways to align a policy: what a batch is, and which objective learns from it.

A method knows no task: one table serves the sandbox's decoders, trained whole, and a language
model under a LoRA. `offline` makes a `Method` of a loss of comparisons in one line, `online` of
a policy gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.losses.policy import reinforce
from irl_jax.masking import masked_sum
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import init_scalar_head
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.actor_critic import ppo_objective, valued, values
from irl_jax.train.objectives import Adapt, ScoredGroup, policy_objective
from irl_jax.types import Group, Objective, PyTree

SAMPLING = Sampling(temperature=1.0)

# rewarded samples, reference log-probs f32[B, K, T], the critic's values f32[B, K, T] or None,
# strength -> batch
Prepare = Callable[[Group, Array, Any, Array], Any]


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
    """

    objective: Callable[[DecoderConfig, Adapt, Any], Objective]
    prepare: Prepare | None
    strengths: tuple[float, ...]
    critic: bool = False

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
        group: Group, ref_logp: Array, strength: Array,
    ) -> Any:  # fmt: skip
        """What the objective learns from, of rewarded samples; see `prepare`."""
        assert self.prepare is not None
        value = values(shape, params, reference, group, adapt=adapt) if self.critic else None
        return self.prepare(group, ref_logp, value, strength)


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
    return Method(make, None, strengths)


def online(
    loss: Callable[[Any], Any], advantage: Callable[[Array], Array], strengths: tuple[float, ...]
) -> Method:
    """A method that learns from its samples, its penalty on KL in the loss.

    Args:
        loss: strength -> the loss, one of `losses.policy`.
        advantage: rewards f32[B, K] -> f32[B, K].
        strengths: see `Method`.
    """

    def prepare(group: Group, ref_logp: Array, value: None, strength: Array) -> ScoredGroup:
        return ScoredGroup(group, advantage(group.reward), ref_logp)

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, loss(strength), sampling=SAMPLING
    )
    return Method(objective, prepare, strengths)


def rloo(strengths: tuple[float, ...]) -> Method:
    """RLOO, its penalty on KL in the reward, as in the paper."""

    def prepare(group: Group, ref_logp: Array, value: None, strength: Array) -> ScoredGroup:
        ratio = masked_sum(group.logp - ref_logp, group.mask, axis=-1)
        return ScoredGroup(group, leave_one_out(group.reward - strength * ratio))

    objective = lambda shape, adapt, strength: policy_objective(
        shape, adapt, reinforce, sampling=SAMPLING
    )
    return Method(objective, prepare, strengths)


def actor_critic(strengths: tuple[float, ...], **keywords: Any) -> Method:
    """PPO with a critic on the policy's hidden states, its penalty on KL in the reward.

    Args:
        strengths: see `Method`.
        **keywords: of `ppo_objective`.
    """

    def prepare(group: Group, ref_logp: Array, value: Array, strength: Array) -> Any:
        return valued(group, value, ref_logp, beta=strength)

    objective = lambda shape, adapt, strength: ppo_objective(
        shape, adapt, sampling=SAMPLING, **keywords
    )
    return Method(objective, prepare, strengths, critic=True)
