"""Log-probs of given tokens, without ever holding [B, T, V] in f32."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P

from irl_jax.losses.distillation import generalised_jsd
from irl_jax.masking import check_range, gather_logp, gather_q
from irl_jax.models.decoder import (
    DecoderConfig,
    forward,
    forward_balanced,
    unembedding,
    vocabulary_logits,
)
from irl_jax.models.sharding import constrain, parts
from irl_jax.types import InputError, Prompt, PyTree

TEMPERATURES = 1e-6, 1e6
"""Between them logits divided by the temperature stay within f32, and so do gradients."""

CHUNK = 512  # tokens of a device whose logits exist at a time: 100 MB at V = 49,152


def token_logp(
    config: DecoderConfig,
    params: PyTree,
    hidden: Array,
    tokens: Array,
    *,
    temperature: float = 1.0,
) -> Array:
    """log softmax(logits(hidden) / temperature)[tokens].

    The vocabulary projection runs over a few columns of all rows at a time, about
    `CHUNK` tokens a device, and is recomputed in the backward pass. Rows stay where
    they are: on a mesh, every device projects its own.

    Args:
        config: the shape.
        params: parameters of the decoder.
        hidden: f[..., T, D], the states that predict `tokens`.
        tokens: i32[..., T].
        temperature: in `TEMPERATURES`, divides the logits.

    Returns:
        f32[..., T], nats.

    Raises:
        InputError: if the temperature is out of range.
    """
    check_range("temperature", temperature, *TEMPERATURES)
    pick = lambda targets, logits: gather_logp(logits / temperature, targets)
    return _in_chunks(pick, tokens, (config, params, hidden))


def _in_chunks(
    of: Callable[..., Any], tokens: Array, *models: tuple[DecoderConfig, PyTree, Array]
) -> Any:
    """of(tokens, *logits) at every position, f32[..., T], few logits at a time.

    Args:
        of: (i32[...], f32[..., V] of each model) -> f32[...], or a tuple of them.
        tokens: i32[..., T].
        *models: shape, parameters, and hidden states f[..., T, D] of each model.
    """
    *rows, t = tokens.shape
    n = math.prod(rows)
    devices = parts(("data", "fsdp"), jax.sharding.get_abstract_mesh().shape)
    width = max(1, min(t, CHUNK * devices // max(1, n)))
    pad = -t % width
    chunks = (t + pad) // width
    # gathered over fsdp, and its gradient reduced, once instead of for every chunk
    kernels = [constrain(unembedding(*model[:2]), P(None, "tensor")) for model in models]

    def cut(x: Array) -> Array:
        x = x.reshape(n, t, *x.shape[len(rows) + 1 :])
        x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(n, chunks, width, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def one(args: tuple[Array, list[Array]]) -> Any:
        targets, states = args
        configs = [model[0] for model in models]
        return of(targets, *map(vocabulary_logits, configs, states, kernels))

    out = jax.lax.map(one, (cut(tokens), [cut(hidden) for *_, hidden in models]))
    join = lambda x: jnp.moveaxis(x, 0, 1).reshape(n, t + pad)[:, :t].reshape(tokens.shape)
    return jax.tree.map(join, out)


def completion_hidden(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array
) -> Array:
    """Hidden state at each token of K completions of each prompt, f[B, K, T, D].

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
    """
    _, prefix = forward(config, params, context.tokens, mask=context.mask)
    return forward(config, params, action, prefix=prefix)[0]


def completion_hidden_logp(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array
) -> tuple[Array, Array]:
    """`completion_hidden` and `completion_logp` from one pass, for two heads on the states.

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.

    Returns:
        Hidden states f[B, K, T, D], and log-probs f32[B, K, T] (nats; arbitrary on padding).
    """
    before, prefix = forward(config, params, context.tokens, mask=context.mask)
    hidden, _ = forward(config, params, action, prefix=prefix)
    first = jnp.broadcast_to(before[:, None, -1:], (*action.shape[:2], 1, before.shape[-1]))
    predicting = jnp.concatenate([first, hidden[:, :, :-1]], axis=2)
    return hidden, token_logp(config, params, predicting, action)


def completion_logp(
    config: DecoderConfig,
    params: PyTree,
    context: Prompt,
    action: Array,
    *,
    temperature: float = 1.0,
) -> Array:
    """log π(action[t] | context, action[<t]) of K completions of each prompt.

    Each prompt is encoded once; only completion tokens meet the vocabulary.

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        temperature: divides the logits, as when the completions were sampled.

    Returns:
        f32[B, K, T] log-probs (nats; arbitrary on padding).
    """
    predicting = predicting_hidden(config, params, context, action)
    return token_logp(config, params, predicting, action, temperature=temperature)


def predicting_hidden(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array
) -> Array:
    """Hidden state in which each action is taken: the one that predicts it, f[B, K, T, D].

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
    """
    b, k, _ = action.shape
    before, prefix = forward(config, params, context.tokens, mask=context.mask)
    first = jnp.broadcast_to(before[:, None, -1:], (b, k, 1, before.shape[-1]))
    hidden, _ = forward(config, params, action[..., :-1], prefix=prefix)
    return jnp.concatenate([first, hidden], axis=2)


def completion_logp_kl(
    config: DecoderConfig, params: PyTree, reference: PyTree, context: Prompt, action: Array
) -> tuple[Array, Array, Array]:
    """`completion_logp` of a policy and its reference, and the divergence between them.

    Args:
        config: the shape of both.
        params: parameters of the policy π.
        reference: parameters of π_ref.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.

    Returns:
        log π and KL(π_ref‖π) before each token, summed over the vocabulary, and log π_ref,
        f32[B, K, T] each (nats; arbitrary on padding).
    """
    own, other = (predicting_hidden(config, p, context, action) for p in (params, reference))
    models = (config, params, own), (config, reference, other)
    kl = _in_chunks(partial(_divergence, 0.0, config.vocab_size), action, *models)
    logp = token_logp(config, params, own, action)
    return logp, kl, token_logp(config, reference, other, action)


def completion_divergence(
    config: DecoderConfig,
    params: PyTree,
    teacher: PyTree,
    context: Prompt,
    action: Array,
    *,
    beta: float,
    teacher_config: DecoderConfig | None = None,
    teacher_context: Prompt | None = None,
) -> Array:
    """The divergence of a policy from a teacher before each token, over the vocabulary.

    Args:
        config: the shape of the policy.
        params: parameters of the policy π.
        teacher: parameters of π_T.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        beta: as in `losses.distillation.generalised_jsd`: 0 is KL(π_T‖π), 1 is KL(π‖π_T).
        teacher_config: the shape of the teacher, of as many tokens; the policy's by default.
        teacher_context: `Prompt` of B rows that the teacher sees; the same by default.

    Returns:
        f32[B, K, T], nats; arbitrary on padding.

    Raises:
        InputError: if beta is out of range, or the teacher has more or fewer tokens.
    """
    shape = teacher_config or config
    own, other = (c.used_vocab or c.vocab_size for c in (config, shape))
    if own != other:
        raise InputError(
            f"teacher_config: it has {other} tokens, the policy {own}; give equal ones"
        )
    hidden = predicting_hidden(config, params, context, action)
    taught = predicting_hidden(shape, teacher, teacher_context or context, action)
    models = (config, params, hidden), (shape, teacher, taught)
    return _in_chunks(partial(_divergence, beta, own), action, *models)


def _divergence(
    beta: float, size: int, targets: Array, logits: Array, teacher_logits: Array
) -> Array:
    """`generalised_jsd` of the logits of the first ids, f32[...]; the targets are not read."""
    own, other = (
        jax.nn.log_softmax(x[..., :size].astype(jnp.float32)) for x in (logits, teacher_logits)
    )
    return generalised_jsd(other, own, beta=beta)


def completion_logp_collision(
    config: DecoderConfig,
    params: PyTree,
    context: Prompt,
    action: Array,
    *,
    temperature: float = 1.0,
) -> tuple[Array, Array]:
    """`completion_logp`, and the log of a sampled token's mean probability, log Σᵥ π(v)².

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        temperature: divides the logits, as when the completions were sampled.

    Returns:
        f32[B, K, T] each (nats; arbitrary on padding).
    """
    hidden = predicting_hidden(config, params, context, action)

    def collision(targets: Array, logits: Array) -> Array:
        logp = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
        return jax.nn.logsumexp(2.0 * logp, axis=-1)

    log_collision = _in_chunks(collision, action, (config, params, hidden))
    return token_logp(config, params, hidden, action, temperature=temperature), log_collision


def completion_certainty(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array
) -> tuple[Array, Array]:
    """How sure a policy is before each token: −H(π), and KL(uniform‖π), its self-certainty.

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.

    Returns:
        Negative entropy and self-certainty, f32[B, K, T] each (nats; arbitrary on padding).

    Reference: Kang, Zhao & Song 2025, "Scalable Best-of-N Selection for Large Language Models via
    Self-Certainty", arXiv 2502.18581.
    """
    model = config, params, predicting_hidden(config, params, context, action)

    def certainty(targets: Array, logits: Array) -> tuple[Array, Array]:
        logp = jax.nn.log_softmax(logits.astype(jnp.float32))
        uniform = jnp.full_like(logp, -math.log(logp.shape[-1]))
        entropy = -(jnp.exp(logp) * jnp.where(jnp.isneginf(logp), 0.0, logp)).sum(-1)
        return -entropy, generalised_jsd(uniform, logp, beta=0.0)

    return _in_chunks(certainty, action, model)


def sequence_logp(config: DecoderConfig, params: PyTree, tokens: Array, segment: Array) -> Array:
    """log π(tokens[t] | earlier tokens of its segment).

    Args:
        config: the shape.
        params: parameters of the decoder.
        tokens: i32[B, T].
        segment: i32[B, T], 0 on padding.

    Returns:
        f32[B, T] log-probs (nats), 0 on padding and on the first token of a segment,
        which nothing predicts.
    """
    hidden, _ = forward(config, params, tokens, segment=segment)
    logp = token_logp(config, params, hidden[:, :-1], tokens[:, 1:])
    return _predicted(logp, segment)


def sequence_logp_balance(
    config: DecoderConfig, params: PyTree, tokens: Array, segment: Array
) -> tuple[Array, Array]:
    """`sequence_logp`, and how evenly experts are used: `models.mlp.load_balance`, f32[].

    Args:
        config: the shape of a mixture of experts.
        params: parameters of the decoder.
        tokens: i32[B, T].
        segment: i32[B, T], 0 on padding.

    Returns:
        f32[B, T] log-probs (nats), and the balance.

    Raises:
        InputError: if the model has no experts.
    """
    hidden, _, balance = forward_balanced(config, params, tokens, segment=segment)
    if balance is None:
        raise InputError("config: n_experts is 0; only a mixture of experts has a balance")
    logp = token_logp(config, params, hidden[:, :-1], tokens[:, 1:])
    return _predicted(logp, segment), balance


def sequence_q(
    config: DecoderConfig, params: PyTree, tokens: Array, segment: Array
) -> tuple[Array, Array]:
    """Q of each token and V of its context, as `sequence_logp` reads rows; Q − V = log π.

    Args:
        config: the shape.
        params: parameters of the decoder, whose logits are Q.
        tokens: i32[B, T].
        segment: i32[B, T], 0 on padding.

    Returns:
        Q and V, f32[B, T] each (nats), 0 where `sequence_logp` is.
    """
    hidden, _ = forward(config, params, tokens, segment=segment)
    model = config, params, hidden[:, :-1]
    pick = lambda targets, logits: gather_q(logits, targets)
    q, value = _in_chunks(pick, tokens[:, 1:], model)
    return _predicted(q, segment), _predicted(value, segment)


def completion_q(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array
) -> tuple[Array, Array]:
    """Q of each token and V of its context, of K completions of each prompt; Q − V = log π.

    Args:
        config: the shape.
        params: parameters of the decoder, whose logits are Q.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.

    Returns:
        Q and V, f32[B, K, T] each (nats; arbitrary on padding).
    """
    model = config, params, predicting_hidden(config, params, context, action)
    return _in_chunks(lambda targets, logits: gather_q(logits, targets), action, model)


def _predicted(x: Array, segment: Array) -> Array:
    """What is known of every token but the first, f[B, T]; 0 where a segment begins."""
    continues = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] != 0)
    return jnp.pad(jnp.where(continues, x, 0.0), ((0, 0), (1, 0)))
