"""The gated MLP of a layer, or many of them of which a router chooses some for each token.

Reference: Shazeer 2020, "GLU Variants", arXiv 2002.05202; Fedus et al. 2021, "Switch
Transformers", arXiv 2101.03961, eq. 4-6; Jiang et al. 2024, "Mixtral of Experts", arXiv 2401.04088.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.linear import Linear

ROUTING = "routing"
"""Collection of flax in which the routers leave what they decided."""


def gated(config: DecoderConfig, gate: Array, up: Array) -> Array:
    """f(gate) · up with f = silu, or GELU by its formula with tanh."""
    f = nn.silu if config.activation == "silu" else nn.gelu  # approximate by default
    return f(gate) * up


class MLP(nn.Module):
    """(f(x W_gate) · x W_up) W_down."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D] -> f[..., D]."""
        c = self.config
        gate = Linear(c.d_ff, c.mlp_bias, name="gate")(x)
        up = Linear(c.d_ff, c.mlp_bias, name="up")(x)
        return Linear(c.d_model, c.mlp_bias, name="down")(gated(c, gate, up))


@jax.custom_batching.sequential_vmap
def _product(x: Array, w: Array, sizes: Array) -> Array:
    return jax.lax.ragged_dot(x, w, sizes)


@jax.custom_batching.sequential_vmap
def _gradients(x: Array, w: Array, sizes: Array, g: Array) -> tuple[Array, Array]:
    _, pullback = jax.vjp(lambda x, w: jax.lax.ragged_dot(x, w, sizes), x, w)
    gradients: tuple[Array, Array] = pullback(g)
    return gradients


@jax.custom_vjp
def grouped_matmul(x: Array, w: Array, sizes: Array) -> Array:
    """Each row times the matrix of its group, f[N, D] times f[E, D, F] -> f[N, F].

    Members of an ensemble go one after the other, since JAX's grouped product has no rule
    for another leading axis (0.10). Differentiable in reverse mode alone.

    Args:
        x: rows, those of group 0 first.
        w: a matrix for each group.
        sizes: i32[E], rows of each group.
    """
    return _product(x, w, sizes)


def _forward(x: Array, w: Array, sizes: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _product(x, w, sizes), (x, w, sizes)


def _backward(saved: tuple[Array, Array, Array], g: Array) -> tuple[Array, Array, None]:
    return *_gradients(*saved, g), None


grouped_matmul.defvjp(_forward, _backward)


class GroupedLinear(nn.Module):
    """x W of one's own expert, plus (x A) B where LoRA leaves stand beside the kernel."""

    n_experts: int
    features: int

    @nn.compact
    def __call__(self, x: Array, sizes: Array) -> Array:
        """Rows f[N, D_in], those of expert 0 first, and how many each has -> f[N, features]."""
        shape = (self.n_experts, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(0.02), shape)
        grouped = lambda x, w: grouped_matmul(x, w.astype(x.dtype), sizes)
        y = grouped(x, kernel)
        if self.has_variable("params", "lora_a"):
            a: Array = self.get_variable("params", "lora_a")
            b: Array = self.get_variable("params", "lora_b")
            y += grouped(grouped(x, a), b)
        return y


class GroupedMLP(nn.Module):
    """E gated MLPs, each on rows of its own."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array, sizes: Array) -> Array:
        """As `GroupedLinear`: f[N, D] -> f[N, D]."""
        c = self.config
        gate = GroupedLinear(c.n_experts, c.d_ff, name="gate")(x, sizes)
        up = GroupedLinear(c.n_experts, c.d_ff, name="up")(x, sizes)
        return GroupedLinear(c.n_experts, c.d_model, name="down")(gated(c, gate, up), sizes)


class Experts(nn.Module):
    """Σ_e w_e MLP_e(x) over the k experts with the largest p = softmax(x W_router).

    w are their p, divided by the sum of them where `normalize_experts` says so. Rows are
    sorted by expert, so that each expert is one matrix product, without a capacity.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D] -> f[..., D]."""
        c = self.config
        k, rows = c.experts_per_token, x.reshape(-1, x.shape[-1])
        scores = Linear(c.n_experts, name="router")(rows)
        prob = jax.nn.softmax(scores.astype(jnp.float32))
        weight, chosen = jax.lax.top_k(prob, k)
        if c.normalize_experts:
            weight /= weight.sum(-1, keepdims=True)
        self.sow(ROUTING, "prob", prob)
        self.sow(ROUTING, "chosen", chosen)
        order = jnp.argsort(chosen.ravel(), stable=True)
        token = order // k
        sizes = jnp.bincount(chosen.ravel(), length=c.n_experts).astype(jnp.int32)
        out = GroupedMLP(c, name="experts")(rows[token], sizes)
        out *= weight.ravel()[order][:, None].astype(out.dtype)
        return jnp.zeros_like(rows).at[token].add(out).reshape(x.shape)


def load_balance(routing: Any, valid: Array) -> Array:
    """E Σ_e f_e P_e over the tokens of all layers; k if every expert is used as much, at most E.

    f_e is how often a token has expert e among its k, P_e the mean probability of e.
    The gradient flows through P alone.

    Args:
        routing: what the L layers left in the collection `ROUTING`, N tokens each.
        valid: bool, N tokens, which of them are no padding.

    Returns:
        f32[], without unit.

    Differs: Fedus et al. choose one expert a token; of several, all are counted, as in
    transformers.
    """
    seen = routing[ROUTING]["layers"]["mlp"]
    (prob,), (chosen,) = seen["prob"], seen["chosen"]
    weight = valid.ravel().astype(jnp.float32)
    total = jnp.maximum(weight.sum() * prob.shape[0], 1.0)
    used = jax.nn.one_hot(chosen, prob.shape[-1]).sum(-2)
    share = lambda x: jnp.einsum("lne,n->e", x, weight) / total
    return prob.shape[-1] * jnp.sum(share(used) * share(prob))
