"""PPO: a policy and a critic, one of parameters {"policy": ..., "critic": ...}.

The critic is a scalar head on the policy's own hidden states, {"head": ...}, or a decoder
of its own, {"decoder": ..., "head": ...}, which is the form of a reward model: a critic may
start as one. The value of a state is read where the next token is predicted.
"""

from __future__ import annotations

from dataclasses import replace

import flax.struct
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import whiten
from irl_jax.dynamics.returns import gae
from irl_jax.dynamics.shaping import adapted_beta, kl_penalised
from irl_jax.losses.policy import ppo
from irl_jax.losses.surrogate import Clip
from irl_jax.losses.value import clipped_value
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import apply_scalar_head
from irl_jax.models.logprob import predicting_hidden, token_logp
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import Adapt, check_sampling
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import Group, Loss, Objective, PyTree


@flax.struct.dataclass
class ValuedGroup:
    """A group of completions, ready for an update of policy and critic.

    Attributes:
        group: the completions, their behaviour log-probs and rewards.
        advantage: f32[B, K, T].
        target: f32[B, K, T], what the critic should say.
        old_value: f32[B, K, T], what it said before the update.
        ref_logp: f32[B, K, T], log-probs under the reference policy (nats).
    """

    group: Group
    advantage: Array
    target: Array
    old_value: Array
    ref_logp: Array


def values(
    config: DecoderConfig, params: PyTree, reference: PyTree, group: Group, *, adapt: Adapt
) -> Array:
    """The critic's values of the states of completions.

    Args:
        config: the shape.
        params: {"policy": what `adapt` takes, "critic": {"head"} or {"decoder", "head"}}.
        reference: frozen parameters.
        group: the completions.
        adapt: how trained parameters become a decoder.

    Returns:
        f32[B, K, T]; arbitrary on padding.
    """
    critic = params["critic"]
    decoder = adapt(critic.get("decoder", params["policy"]), reference)
    hidden = predicting_hidden(config, decoder, group.context, group.action)
    return apply_scalar_head(critic["head"], hidden)


def valued(
    group: Group,
    value: Array,
    ref_logp: Array,
    *,
    beta: float | Array,
    discount: float = 1.0,
    gae_lambda: float = 0.95,
) -> ValuedGroup:
    """Advantages and targets from rewards, a KL penalty in the reward, and the critic.

    Args:
        group: the completions and their rewards; one that was cut at T counts as ended.
        value: f32[B, K, T], of `values`.
        ref_logp: f32[B, K, T], log-probs under the reference policy (nats).
        beta: β >= 0 of `dynamics.shaping.kl_penalised`.
        discount: γ.
        gae_lambda: λ.

    Returns:
        The group with advantages, whitened over the batch, and targets A + V.
    """
    mask = group.mask
    reward = kl_penalised(group.reward, group.logp, ref_logp, mask, beta=beta)
    advantage = gae(reward, value, mask, discount=discount, gae_lambda=gae_lambda)
    target = advantage + jnp.where(mask, value, 0.0)
    return ValuedGroup(group, whiten(advantage, mask), target, value, ref_logp)


def ppo_objective(
    config: DecoderConfig,
    adapt: Adapt,
    *,
    sampling: Sampling,
    clip: Clip,
    value_clip: float,
    value_weight: float,
    entropy: float = 0.0,
) -> Objective:
    """The clipped surrogate of a policy and the clipped regression of its critic.

    L = L_policy + c_V L_value, means over tokens.

    Args:
        config: the shape, of the policy and of a critic of its own.
        adapt: how trained parameters become a decoder.
        sampling: how the completions were drawn, the object that `generate` was given.
        clip: of ratios, see `losses.policy.ppo`.
        value_clip: of values, units of the reward.
        value_weight: c_V.
        entropy: weight of the entropy bonus.

    Returns:
        `(params, batch: ValuedGroup, key, reference) -> Loss`, with the metrics of both
        and `value_loss`; `params` as in `values`.

    Reference: Schulman et al. 2017, arXiv 1707.06347, eq. 9.
    """
    check_sampling(sampling)

    def objective(params: PyTree, batch: ValuedGroup, key: Array, reference: PyTree) -> Loss:
        group, critic = batch.group, params["critic"]
        decoder = adapt(params["policy"], reference)
        hidden = predicting_hidden(config, decoder, group.context, group.action)
        logp = token_logp(config, decoder, hidden, group.action, temperature=sampling.temperature)
        policy = ppo(
            logp,
            group,
            advantage=batch.advantage,
            clip=clip,
            ref_logp=batch.ref_logp,
            entropy=entropy,
        )
        if "decoder" in critic:
            value = values(config, params, reference, group, adapt=adapt)
        else:
            value = apply_scalar_head(critic["head"], hidden)
        fit = clipped_value(
            value, group, target=batch.target, old_value=batch.old_value, clip=value_clip
        )
        metrics = {**policy.metrics, **fit.metrics, "value_loss": (fit.total, fit.weight)}
        return Loss(policy.total + value_weight * fit.total, policy.weight, metrics)

    return objective


def kl_controlled(step: Step, *, target: float, gain: float) -> Step:
    """A step after which params["beta"] has moved, so that the metric `kl` comes to a target.

    β is a part of the parameters, f32[], so that a checkpoint holds it and `prepare` of
    `train.online.train_online` reads it, `context.params["beta"]`; no gradient reaches it.

    Args:
        step: a pure step whose metrics have `kl`, nats a completion.
        target: nats a completion.
        gain: see `dynamics.shaping.adapted_beta`.

    Returns:
        The step; its metrics have `beta`, with which the batch was rewarded.
    """

    def controlled(
        state: TrainState, batch: PyTree, *frozen: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        beta = state.params["beta"]
        after, metrics = step(state, batch, *frozen)
        moved = adapted_beta(beta, metrics["kl"], target=target, gain=gain)
        after = replace(after, params=after.params | {"beta": moved})
        return after, metrics | {"beta": beta}

    return controlled
