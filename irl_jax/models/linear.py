"""Projections: x W (+ b), and what a LoRA adds."""

from __future__ import annotations

import flax.linen as nn
import jax
from jax import Array


@jax.custom_vjp
def matmul(x: Array, w: Array) -> Array:
    """x w, f[..., D] times f[D, F], with a gradient of w that copies less.

    xᵀg, the gradient of w, contracts over rows, so that its left operand is transposed
    first. JAX always puts g there; here it is the narrower of x and g. In a gated MLP
    that is x, once for two projections: on a CPU the copies of a step of SmolLM2 (8 x 256,
    17 s) fell from 1.8 to 0.5 s. Differentiable in reverse mode alone.
    """
    return x @ w


def _forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ w, (x, w)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = saved
    rows = tuple(range(x.ndim - 1))
    over_rows = lambda a, b: jax.lax.dot_general(a, b, ((rows, rows), ((), ())))
    narrow = x.shape[-1] <= g.shape[-1]
    return g @ w.T, over_rows(x, g) if narrow else over_rows(g, x).T


matmul.defvjp(_forward, _backward)


class Linear(nn.Module):
    """x W (+ b), plus (x A) B where LoRA leaves stand beside the kernel."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D_in] -> f[..., features]."""
        init = nn.initializers.normal(0.02)
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        y = matmul(x, kernel.astype(x.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y += bias.astype(x.dtype)
        if self.has_variable("params", "lora_a"):
            a: Array = self.get_variable("params", "lora_a")
            b: Array = self.get_variable("params", "lora_b")
            y += (x @ a.astype(x.dtype)) @ b.astype(x.dtype)
        return y
