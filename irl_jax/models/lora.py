"""LoRA as a transformation of parameters: W + scale · A·B with a small rank.

A LoRA is a nested dict that mirrors the kernels it changes, each as {"a", "b"}. It
is trained alone: `objective(lora, batch, key, base)` calls `attach(base, lora, scale)`
and the base needs no gradient and no optimizer state.

Reference: Hu et al. 2021, "LoRA", arXiv 2106.09685, section 4.1, equation 3
(scale = alpha / rank).
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from irl_jax.types import InputError, PyTree

ATTENTION = r"attn/[qv]/"
"""The projections that the paper adapts: q and v."""


def init_lora(key: Array, params: PyTree, rank: int, targets: str = ATTENTION) -> PyTree:
    """A LoRA that changes nothing yet: A ~ N(0, 1 / D_in), B = 0.

    Args:
        key: typed PRNG key.
        params: the decoder's parameters, or their shapes.
        rank: r, at least 1 and at most the smaller side of every kernel it is put on.
        targets: regular expression searched for in the "/"-joined paths of the layers'
            kernels, such as layers/attn/q/kernel.

    Returns:
        {"layers": {"attn": {"q": {"a": f32[L, D_in, r], "b": f32[L, r, D_out]}, ...}}}.

    Raises:
        InputError: if `targets` matches no kernel of a layer, or `rank` does not fit one.

    Differs: the paper does not state the variance of A.
    """
    kernels = layer_kernels(params)
    chosen = [path for path in kernels if re.search(targets, "/".join(path))]
    if not chosen:
        raise InputError(
            f"targets: {targets!r} matches none of {', '.join('/'.join(path) for path in kernels)}"
        )
    flat = {}
    for path, subkey in zip(chosen, jax.random.split(key, len(chosen)), strict=True):
        *stack, d_in, d_out = kernels[path].shape
        if not 1 <= rank <= min(d_in, d_out):
            raise InputError(
                f"rank: {rank} is not between 1 and {min(d_in, d_out)}, the smaller side of "
                f"{'/'.join(path)}"
            )
        normal = jax.random.normal(subkey, (*stack, d_in, rank), jnp.float32)
        flat[(*path[:-1], "a")] = normal / jnp.sqrt(d_in)
        flat[(*path[:-1], "b")] = jnp.zeros((*stack, rank, d_out), jnp.float32)
    return unflatten_dict(flat)


def attach(params: PyTree, lora: PyTree, scale: float | Array) -> PyTree:
    """Puts A and scale · B beside their kernels; layers then compute x·W + (x·A)·B.

    Args:
        params: the decoder's parameters; kept as they are.
        lora: as `init_lora` gives it.
        scale: alpha / rank.

    Returns:
        The parameters with leaves `lora_a` and `lora_b`.

    Raises:
        InputError: if the LoRA does not fit the parameters.
    """
    flat = flatten_dict(params)
    for path, (a, b) in pairs(params, lora).items():
        flat[(*path[:-1], "lora_a")] = a
        flat[(*path[:-1], "lora_b")] = scale * b
    return unflatten_dict(flat)


def merge(params: PyTree, lora: PyTree, scale: float | Array) -> PyTree:
    """Parameters of the same structure with kernels W + scale · A·B.

    Args:
        params: the decoder's parameters.
        lora: as `init_lora` gives it.
        scale: alpha / rank.

    Raises:
        InputError: if the LoRA does not fit the parameters.
    """
    flat = flatten_dict(params)
    for path, (a, b) in pairs(params, lora).items():
        product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        flat[path] = flat[path] + scale * product
    return unflatten_dict(flat)


def layer_kernels(params: PyTree) -> dict[tuple[str, ...], Any]:
    """Path -> kernel, of the layers alone: only these look for a LoRA."""
    flat = flatten_dict(params)
    return {path: x for path, x in flat.items() if path[0] == "layers" and path[-1] == "kernel"}


def pairs(params: PyTree, lora: PyTree) -> dict[tuple[str, ...], tuple[Array, Array]]:
    """Path of each adapted kernel -> (A, B).

    Raises:
        InputError: if a pair stands where there is no kernel, or its shapes differ
            from the kernel's.
    """
    kernels = layer_kernels(params)
    flat = flatten_dict(lora)
    found = {}
    for *parent, _ in flat:
        path = (*parent, "kernel")
        place = "/".join(parent)
        if path not in kernels:
            raise InputError(f"lora: {place}: the parameters have no such kernel")
        if (*parent, "a") not in flat or (*parent, "b") not in flat:
            raise InputError(f"lora: {place}: needs both a and b")
        a, b = flat[(*parent, "a")], flat[(*parent, "b")]
        *stack, d_in, d_out = kernels[path].shape
        rank = a.shape[-1]
        if a.shape != (*stack, d_in, rank) or b.shape != (*stack, rank, d_out):
            raise InputError(
                f"lora: {place}: a {list(a.shape)} and b {list(b.shape)} do not fit the kernel "
                f"{list(kernels[path].shape)}"
            )
        found[path] = (a, b)
    return found
