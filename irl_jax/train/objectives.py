"""A decoder under a loss: objectives for `make_train_step`.

Every objective here has the same form: the model turns the batch into log-probs or
rewards, a pure loss does the rest. What is trained may be the decoder itself, or a
LoRA on frozen parameters; `Adapt` says which. The frozen parameters are the
reference policy in both cases, and reach the jitted step as its last argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.demonstration import nll
from irl_jax.losses.direct_variants import on_policy_weight, tdpo, wpo
from irl_jax.losses.distillation import distil, gkd
from irl_jax.losses.unpaired import mismatched_kl
from irl_jax.masking import check_range
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import apply_scalar_head, last_value
from irl_jax.models.logprob import (
    TEMPERATURES,
    completion_divergence,
    completion_hidden,
    completion_logp,
    completion_logp_collision,
    completion_logp_kl,
    sequence_logp,
    sequence_logp_balance,
    sequence_q,
)
from irl_jax.models.lora import attach
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import Demonstration, Group, InputError, Loss, Objective, Preference, PyTree

# trained parameters, reference parameters -> parameters of the decoder
Adapt = Callable[[PyTree, PyTree], PyTree]


def full(params: PyTree, reference: PyTree) -> PyTree:
    """`Adapt`: every weight is trained."""
    del reference
    return params


def lora(scale: float) -> Adapt:
    """`Adapt`: a LoRA on the reference parameters is trained; scale = alpha / rank."""
    return lambda params, reference: attach(reference, params, scale)


@flax.struct.dataclass
class PolicyBatch:
    """A group of completions, ready for a policy update.

    Attributes:
        group: the completions, their behaviour log-probs and rewards.
        advantage: f32[B, K], or f32[B, K, T] of tokens.
        ref_logp: f32[B, K, T], log-probs under the reference policy (nats), at the
            temperature of sampling; None where no penalty or metric needs them.
    """

    group: Group
    advantage: Array
    ref_logp: Array | None = None


@flax.struct.dataclass
class Extended:
    """A batch, and what its loss takes by keyword beside it.

    Attributes:
        batch: `Preference` or another.
        keywords: name -> array with a leading axis B: `win` of `sppo`, `explore` of `xpo`.
    """

    batch: Any
    keywords: dict[str, Array]


def sft_objective(config: DecoderConfig, adapt: Adapt = full, *, balance: float = 0.0) -> Objective:
    """Negative log-likelihood of demonstrations, and of a mixture how evenly its experts are used.

    Args:
        config: the shape.
        adapt: how what is trained becomes a decoder.
        balance: weight of `models.mlp.load_balance`, which is a metric of every mixture. It
            is that of a micro-batch, so that a split batch has another sum.

    Returns:
        `(params, batch: Demonstration, key, reference) -> Loss`; with `full`, the
        reference may be left out.
    """

    def objective(params: PyTree, batch: Demonstration, key: Array, *frozen: PyTree) -> Loss:
        decoder = adapt(params, frozen[0] if frozen else None)
        if not config.n_experts:
            return nll(sequence_logp(config, decoder, batch.tokens, batch.segment), batch)
        logp, even = sequence_logp_balance(config, decoder, batch.tokens, batch.segment)
        loss = nll(logp, batch)
        metrics = {**loss.metrics, "balance": (loss.weight * even, loss.weight)}
        return Loss(loss.total + balance * loss.weight * even, loss.weight, metrics)

    return objective


def soft_q_objective(config: DecoderConfig, adapt: Adapt, loss: Callable[..., Loss]) -> Objective:
    """A loss of demonstrations that reads the decoder's logits as a soft Q.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: of Q and V, f32[B, T] each, and the batch, such as
            `partial(iq_learn_lm, lam=0.01, discount=1.0)`.

    Returns:
        `(params, batch: Demonstration, key, reference) -> Loss`; with `full`, the
        reference may be left out.
    """

    def objective(params: PyTree, batch: Demonstration, key: Array, *frozen: PyTree) -> Loss:
        decoder = adapt(params, frozen[0] if frozen else None)
        return loss(*sequence_q(config, decoder, batch.tokens, batch.segment), batch)

    return objective


def preference_rewards(
    config: DecoderConfig, params: PyTree, reference: PyTree, context: Any, action: Array,
    mask: Array, *, adapt: Adapt,
) -> Array:  # fmt: skip
    """Rewards of completions by a scalar head on the decoder's last hidden state.

    Args:
        config: the shape.
        params: {"decoder": what `adapt` takes, "head": a scalar head}.
        reference: frozen parameters.
        context: `Prompt` of B rows.
        action: i32[B, K, T].
        mask: bool[B, K, T].
        adapt: how `params["decoder"]` becomes a decoder.

    Returns:
        f32[B, K]; 0 for an empty completion.
    """
    decoder = adapt(params["decoder"], reference)
    hidden = completion_hidden(config, decoder, context, action)
    return last_value(apply_scalar_head(params["head"], hidden), mask)


def _logp(config: DecoderConfig, decoder: PyTree, batch: Any) -> Array:
    """Log-probs in the shape of the batch's actions, [B, K, T] or [B, T]."""
    if batch.action.ndim == 3:
        return completion_logp(config, decoder, batch.context, batch.action)
    return completion_logp(config, decoder, batch.context, batch.action[:, None])[:, 0]


def direct_objective(config: DecoderConfig, adapt: Adapt, loss: Callable[..., Loss]) -> Objective:
    """Direct alignment against the reference parameters.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: of log-probs under the policy and the reference, each in the shape of
            `batch.action`, and the batch, such as `partial(dpo, beta=0.1)`.

    Returns:
        `(params, batch, key, reference) -> Loss`, where the batch is what the loss
        reads: `Preference`, `Ranking`, `Group` or `Rating`, or one of them `Extended` by
        arrays that the loss takes by keyword.
    """

    def objective(params: PyTree, batch: Any, key: Array, reference: PyTree) -> Loss:
        keywords: dict[str, Array] = {}
        if isinstance(batch, Extended):
            batch, keywords = batch.batch, batch.keywords
        ref_logp = jax.lax.stop_gradient(_logp(config, reference, batch))
        return loss(_logp(config, adapt(params, reference), batch), ref_logp, batch, **keywords)

    return objective


def mismatched_objective(
    config: DecoderConfig, adapt: Adapt, loss: Callable[..., Loss]
) -> Objective:
    """Direct alignment against the policy's divergence from the reference, as KTO does.

    The divergence is estimated on the completions of each row's neighbour after the
    row's own prompt, see `losses.unpaired.mismatched_kl`; a (micro-)batch of one row has
    no other prompt, and neighbours should not share theirs.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: as in `direct_objective`, and of the divergence f32[] in nats as `kl`, such
            as `partial(kto, beta=0.1, good=1.0, bad=1.0)`.

    Returns:
        `(params, batch, key, reference) -> Loss`, the batch a `Rating` or `Preference`.
    """

    def objective(params: PyTree, batch: Any, key: Array, reference: PyTree) -> Loss:
        decoder = adapt(params, reference)
        moved = lambda x: jnp.roll(x, 1, axis=0)
        other = batch.replace(action=moved(batch.action), mask=moved(batch.mask))
        both = (batch.weight > 0) & (moved(batch.weight) > 0)
        flat = lambda x: x.reshape(-1, x.shape[-1])
        kl = mismatched_kl(
            flat(_logp(config, jax.lax.stop_gradient(decoder), other)),
            flat(_logp(config, reference, other)),
            flat(other.mask),
            jnp.repeat(both.astype(jnp.float32), flat(other.mask).shape[0] // both.shape[0]),
        )
        ref_logp = jax.lax.stop_gradient(_logp(config, reference, batch))
        return loss(_logp(config, decoder, batch), ref_logp, batch, kl=kl)

    return objective


def tdpo_objective(config: DecoderConfig, adapt: Adapt, *, beta: float, alpha: float) -> Objective:
    """Token-level DPO: the divergence before every token goes into the loss, see `tdpo`.

    Returns:
        `(params, batch: Preference, key, reference) -> Loss`.
    """

    def objective(params: PyTree, batch: Preference, key: Array, reference: PyTree) -> Loss:
        logp, kl, ref_logp = completion_logp_kl(
            config,
            adapt(params, reference),
            jax.lax.stop_gradient(reference),
            batch.context,
            batch.action,
        )
        return tdpo(logp, kl, ref_logp, batch, beta=beta, alpha=alpha)

    return objective


def wpo_objective(
    config: DecoderConfig, adapt: Adapt, *, beta: float, cap: float = math.inf
) -> Objective:
    """DPO of pairs weighted by how likely the policy is to write them, see `wpo`.

    Returns:
        `(params, batch: Preference, key, reference) -> Loss`.
    """

    def objective(params: PyTree, batch: Preference, key: Array, reference: PyTree) -> Loss:
        decoder = adapt(params, reference)
        logp, collision = completion_logp_collision(config, decoder, batch.context, batch.action)
        ref_logp = jax.lax.stop_gradient(_logp(config, reference, batch))
        share = on_policy_weight(logp, collision, batch.mask)
        return wpo(logp, ref_logp, batch, share=share, beta=beta, cap=cap)

    return objective


def reference_free_objective(
    config: DecoderConfig, adapt: Adapt, loss: Callable[[Array, Any], Loss]
) -> Objective:
    """Direct alignment of the policy alone: the reference parameters are not run.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: of log-probs in the shape of `batch.action`, and the batch, such as
            `partial(simpo, beta=2.0, gamma=1.0)`.

    Returns:
        `(params, batch, key, reference) -> Loss`; with `full`, the reference may be
        left out.
    """

    def objective(params: PyTree, batch: Any, key: Array, *frozen: PyTree) -> Loss:
        decoder = adapt(params, frozen[0] if frozen else None)
        return loss(_logp(config, decoder, batch), batch)

    return objective


# (logp f32[B, K, T], group, *, advantage, ref_logp) -> Loss
PolicyLoss = Callable[..., Loss]


def check_sampling(sampling: Sampling) -> None:
    """Raises `InputError` unless completions drawn so can teach the policy that drew them."""
    check_range("sampling.temperature", sampling.temperature, *TEMPERATURES)
    if sampling.top_k != 0 or sampling.top_p != 1:
        raise InputError(
            f"sampling: top_k = {sampling.top_k}, top_p = {sampling.top_p}: the whole policy has no"
            " ratio to a truncated one; learn from completions drawn with top_k = 0 and top_p = 1"
        )


def policy_objective(
    config: DecoderConfig, adapt: Adapt, loss: PolicyLoss, *, sampling: Sampling
) -> Objective:
    """A policy gradient on sampled completions; which one is up to the loss.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: one of `irl_jax.losses.policy` with its hyper-parameters, such as
            `partial(grpo, clip=0.2, beta=0.04)`.
        sampling: how the completions were drawn, the same object that `generate` was
            given: the policy that learns must be the one that acted.

    Returns:
        `(params, batch: PolicyBatch, key, reference) -> Loss`.

    Raises:
        InputError: if nothing was drawn (temperature 0 or all but 0), or not from the whole
            distribution: a truncated one has no ratio to the policy.
    """
    check_sampling(sampling)

    def objective(params: PyTree, batch: PolicyBatch, key: Array, reference: PyTree) -> Loss:
        group, decoder = batch.group, adapt(params, reference)
        logp = completion_logp(
            config, decoder, group.context, group.action, temperature=sampling.temperature
        )
        return loss(logp, group, advantage=batch.advantage, ref_logp=batch.ref_logp)

    return objective


def gkd_objective(
    config: DecoderConfig, adapt: Adapt, teacher: DecoderConfig, *, beta: float
) -> Objective:
    """A teacher's distribution at every token of the policy's own completions, see `gkd`.

    Args:
        config: the shape of the policy.
        adapt: how the trained parameters become a decoder.
        teacher: its shape; as many tokens as the policy.
        beta: as in `losses.distillation.generalised_jsd`: 0 is KL(π_T‖π), 1 is KL(π‖π_T).

    Returns:
        `(params, batch: Group, key, reference, parameters of the teacher) -> Loss`.
    """

    def objective(
        params: PyTree, batch: Group, key: Array, reference: PyTree, teaching: PyTree
    ) -> Loss:
        divergence = completion_divergence(
            config, adapt(params, reference), teaching, batch.context, batch.action,
            beta=beta, teacher_config=teacher,
        )  # fmt: skip
        return gkd(divergence, batch)

    return objective


def distil_objective(
    config: DecoderConfig, adapt: Adapt, teacher: DecoderConfig, *,
    discount: float, sampling: Sampling,
) -> Objective:  # fmt: skip
    """A policy gradient for a teacher's log-probs of the sampled tokens, see `distil`.

    Args:
        config: the shape of the policy.
        adapt: how the trained parameters become a decoder.
        teacher: its shape; it has the policy's tokens.
        discount: γ of what comes after a token.
        sampling: how the completions were drawn, the teacher's log-probs at its temperature.

    Returns:
        `(params, batch: Group, key, reference, parameters of the teacher) -> Loss`.

    Raises:
        InputError: as `policy_objective`.
    """
    check_sampling(sampling)

    def objective(
        params: PyTree, batch: Group, key: Array, reference: PyTree, teaching: PyTree
    ) -> Loss:
        own, theirs = (
            completion_logp(
                shape, decoder, batch.context, batch.action, temperature=sampling.temperature
            )
            for shape, decoder in ((config, adapt(params, reference)), (teacher, teaching))
        )
        return distil(own, batch, teacher_logp=theirs, discount=discount)

    return objective
