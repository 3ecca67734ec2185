"""Rotary frequencies as config.json states them."""

from __future__ import annotations

import json
from typing import Any

from irl_jax.models.decoder import DecoderConfig, RopeScaling
from irl_jax.models.families.family import Fields

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
PARAMETERS = {"default": (), "llama3": LLAMA3}
"""RoPE type -> its parameters besides the base."""


def read_rope(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Base and scaling of the rotary frequencies, as arguments of `DecoderConfig`.

    They stand in `rope_theta` and `rope_scaling`, or both in `rope_parameters`
    (transformers 5).

    Args:
        fields: of config.json.
        max_positions: stands in for a missing original context length.

    Raises:
        InputError: if the scaling is of another type than Llama 3.1's, or incomplete.
    """
    stated = fields["rope_scaling"] or fields["rope_parameters"] or {}
    if not isinstance(stated, dict):
        raise fields.error(f"rope_scaling: expected an object, found {json.dumps(stated)}")
    rope = {name: value for name, value in stated.items() if value is not None}
    rope_type = rope.pop("rope_type", rope.get("type", "default"))
    rope.pop("type", None)
    if not isinstance(rope_type, str) or rope_type not in PARAMETERS:
        raise fields.error(
            f"RoPE type {json.dumps(rope_type)} is not supported; only {', '.join(PARAMETERS)}"
        )
    needed = PARAMETERS[rope_type]
    rope.setdefault("rope_theta", fields["rope_theta"] or 10_000.0)
    if rope.pop("partial_rotary_factor", 1.0) != 1.0:
        raise fields.error("partial_rotary_factor is not supported; only 1.0")
    if rope_type == "llama3":
        rope[LLAMA3[3]] = fields[LLAMA3[3]] or rope.get(LLAMA3[3]) or max_positions
    for name in rope:
        if name not in ("rope_theta", *needed):
            raise fields.error(f"RoPE parameter {name} is not supported (type {rope_type})")
    parameters = Fields(fields.path, rope)
    theta = float(parameters.positive("rope_theta", float))
    if rope_type == "default":
        return {"rope_theta": theta}
    factor, low, high = (float(parameters.positive(name, float)) for name in needed[:3])
    if low >= high:
        raise fields.error(f"low_freq_factor {low} must be below high_freq_factor {high}")
    scaling = RopeScaling(factor, low, high, parameters.count(LLAMA3[3]))
    return {"rope_theta": theta, "rope_scaling": scaling}


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The fields `rope_theta` and `rope_scaling`, which transformers 4 and 5 read."""
    scaling = config.rope_scaling
    stated = scaling and {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }
    return {"rope_theta": config.rope_theta, "rope_scaling": stated}
