"""Where a model's parameters and activations live on the mesh `data, fsdp, tensor`.

A table of rules maps the "/"-joined path of a parameter to a `PartitionSpec`; the
first regular expression found in the path decides. `fsdp` cuts the width that a
matmul contracts or produces outside a block, `tensor` cuts heads, the MLP's inner
width and the vocabulary, so that a block needs one reduction over `tensor` per
sub-layer. The leading axis of stacked layers is scanned and never cut.

Reference: Shoeybi et al. 2019, "Megatron-LM", arXiv 1909.08053, section 3;
Rajbhandari et al. 2019, "ZeRO", arXiv 1910.02054; Xu et al. 2021, "GSPMD",
arXiv 2105.04663, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
from jax import Array
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

Rules = tuple[tuple[str, P], ...]

BATCH = P(("data", "fsdp"))
"""Rows of a batch, and of its activations."""

REPLICATED: Rules = ((r"", P()),)
"""Every parameter whole on every device."""

RULES: Rules = (
    (r"embed/embedding$", P("tensor", "fsdp")),  # [V, D]
    (r"unembed/kernel$", P("fsdp", "tensor")),  # [D, V]
    (r"attn/[qkv]/kernel$", P(None, "fsdp", "tensor")),  # [L, D, heads * H]
    (r"attn/o/kernel$", P(None, "tensor", "fsdp")),  # [L, heads * H, D]
    (r"mlp/(gate|up)/kernel$", P(None, "fsdp", "tensor")),  # [L, D, F]
    (r"mlp/down/kernel$", P(None, "tensor", "fsdp")),  # [L, F, D]
    (r"(attn/[qkv]|mlp/(gate|up))/bias$", P(None, "tensor")),  # [L, heads * H or F]
    (r"(attn/o|mlp/down)/bias$", P()),  # [L, D]
    (r"(attn/[qkv]|mlp/(gate|up))/(lora_)?a$", P(None, "fsdp")),  # [L, D, r]
    (r"(attn/[qkv]|mlp/(gate|up))/(lora_)?b$", P(None, None, "tensor")),  # [L, r, heads * H or F]
    (r"(attn/o|mlp/down)/(lora_)?a$", P(None, "tensor")),  # [L, heads * H or F, r]
    (r"(attn/o|mlp/down)/(lora_)?b$", P(None, None, "fsdp")),  # [L, r, D]
    (r"mlp/router/(kernel|(lora_)?a)$", P(None, "fsdp")),  # [L, D, E or r]
    (r"mlp/router/(lora_)?b$", P()),  # [L, r, E]
    (r"experts/(gate|up)/kernel$", P(None, None, "fsdp", "tensor")),  # [L, E, D, F]
    (r"experts/down/kernel$", P(None, None, "tensor", "fsdp")),  # [L, E, F, D]
    (r"experts/(gate|up)/(lora_)?a$", P(None, None, "fsdp")),  # [L, E, D, r]
    (r"experts/(gate|up)/(lora_)?b$", P(None, None, None, "tensor")),  # [L, E, r, F]
    (r"experts/down/(lora_)?a$", P(None, None, "tensor")),  # [L, E, F, r]
    (r"experts/down/(lora_)?b$", P(None, None, None, "fsdp")),  # [L, E, r, D]
    (r"norm/scale$", P()),  # [L, D], [D]; of queries and keys [L, H or heads * H]
    (
        r"head|score|spread|cutpoints",
        P(),
    ),  # scalar heads, of values and variances: [D], []; [C - 1]
)
"""Rules of `irl_jax.models.decoder`, its LoRA leaves and the heads put on it."""


def stacked(rules: Rules, *roots: str) -> Rules:
    """The rules of the same parameters with one more leading axis, which is never cut.

    Args:
        rules: of the parameters without it.
        *roots: first names of the paths that have it, such as "decoder" and "head" of an
            ensemble's members; other paths match none of these rules.

    Example:
        >>> ((pattern, spec),) = stacked(((r"/a$", P("fsdp")),), "decoder", "head")
        >>> pattern, tuple(spec)
        ('^(?=(?:decoder|head)/).*(?:/a$)', (None, 'fsdp'))
    """
    under = f"^(?=(?:{'|'.join(roots)})/)"
    return tuple((f"{under}.*(?:{pattern})", P(None, *spec)) for pattern, spec in rules)


def axes_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Mesh axes of one entry of a PartitionSpec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def parts(entry: str | tuple[str, ...] | None, sizes: Mapping[str, int]) -> int:
    """Into how many parts an entry of a PartitionSpec cuts its dimension."""
    return math.prod(sizes.get(axis, 1) for axis in axes_of(entry))


def constrain(x: Array, spec: P) -> Array:
    """Asks the compiler to lay out an activation as `spec` on the mesh in context.

    A layout is a matter of speed only: a dimension that its mesh axes do not divide
    (the last, smaller batch of an evaluation, say) is left whole, and without a mesh
    in context (`jax.set_mesh`) nothing happens.

    Args:
        x: array of any shape.
        spec: at most as long as x has dimensions; axes the mesh lacks are ignored.
    """
    mesh = jax.sharding.get_abstract_mesh()
    sizes = {
        name: size
        for name, size, kind in zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
        if kind == AxisType.Auto
    }
    if not sizes:
        return x
    fitted = []
    for size, entry in zip(x.shape, spec, strict=False):
        axes = tuple(axis for axis in axes_of(entry) if axis in sizes)
        fitted.append(axes if size % parts(axes, sizes) == 0 else None)
    return jax.lax.with_sharding_constraint(x, P(*fitted))
