"""Rotary frequencies as config.json states them."""

from __future__ import annotations

import json
import math
from typing import Any

from irl_jax.models.decoder_config import (
    DecoderConfig,
    LinearScaling,
    RopeScaling,
    YarnScaling,
)
from irl_jax.models.families.fields import Fields

ORIGINAL = "original_max_position_embeddings"
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL)
YARN = ("factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (*YARN, "truncate", ORIGINAL),
    "llama3": LLAMA3,
}
"""RoPE type -> its parameters besides the base.

"dynamic" changes the frequencies of sequences beyond `max_position_embeddings` alone, which the
decoder refuses: within them it is "default".
"""


def read_rope(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Base and scaling of the rotary frequencies, as arguments of `DecoderConfig`.

    They stand in `rope_theta` and `rope_scaling`, or both in `rope_parameters`
    (transformers 5).

    Args:
        fields: of config.json.
        max_positions: stands in for a missing original context length.

    Raises:
        InputError: if the scaling is of a type that is not in `PARAMETERS`, or incomplete.
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
    rope.setdefault("rope_theta", fields["rope_theta"])
    if rope.pop("partial_rotary_factor", 1.0) != 1.0:
        raise fields.error("partial_rotary_factor is not supported; only 1.0")
    if ORIGINAL in PARAMETERS[rope_type]:
        rope[ORIGINAL] = fields[ORIGINAL] or rope.get(ORIGINAL) or max_positions
    for name in rope:
        if name not in ("rope_theta", *PARAMETERS[rope_type]):
            raise fields.error(f"RoPE parameter {name} is not supported (type {rope_type})")
    parameters = Fields(fields.path, rope)
    theta = float(parameters.positive("rope_theta", float))
    return {"rope_theta": theta} | _scaling(parameters, rope_type, theta, max_positions)


def _scaling(rope: Fields, rope_type: str, theta: float, max_positions: int) -> dict[str, Any]:
    """The argument `rope_scaling` of `DecoderConfig`, if any."""
    number = lambda name, default=None: float(rope.positive(name, float, default))
    if rope_type == "default":
        return {}
    if rope_type == "yarn":
        return {"rope_scaling": _yarn(rope, theta, max_positions)}
    factor = number("factor")
    if rope_type == "dynamic":
        return {}
    if rope_type == "linear":
        return {"rope_scaling": LinearScaling(factor)}
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if low >= high:
        raise rope.error(f"low_freq_factor {low} must be below high_freq_factor {high}")
    return {"rope_scaling": RopeScaling(factor, low, high, rope.count(ORIGINAL))}


def _yarn(rope: Fields, theta: float, max_positions: int) -> YarnScaling:
    """YaRN's parameters, those that are absent as transformers fills them in."""
    original = rope.count(ORIGINAL)
    number = lambda name, default=None: float(rope.positive(name, float, default))
    factor = number("factor", max_positions / original)
    fast, slow = number("beta_fast", 32.0), number("beta_slow", 1.0)
    if slow > fast:
        raise rope.error(f"beta_slow {slow} must not be above beta_fast {fast}")
    if theta <= 1:
        raise rope.error(f"rope_theta: YaRN needs a base above 1, found {theta}")
    share = lambda scale: 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0
    attention = share(1)
    if rope["mscale"] and rope["mscale_all_dim"]:
        attention = share(number("mscale")) / share(number("mscale_all_dim"))
    truncate = True if rope["truncate"] is None else rope["truncate"]
    if not isinstance(truncate, bool):
        raise rope.error(f"truncate: expected true or false, found {json.dumps(truncate)}")
    attention = number("attention_factor", attention)
    return YarnScaling(factor, original, fast, slow, attention, truncate)


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The fields `rope_theta` and `rope_scaling`, which transformers 4 and 5 read."""
    scaling = config.rope_scaling
    stated: dict[str, Any] | None = None
    if isinstance(scaling, LinearScaling):
        stated = {"rope_type": "linear", "factor": scaling.factor}
    elif isinstance(scaling, YarnScaling):
        stated = {
            "rope_type": "yarn",
            "factor": scaling.factor,
            ORIGINAL: scaling.original_max_positions,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "attention_factor": scaling.attention_factor,
            "truncate": scaling.truncate,
        }
    elif isinstance(scaling, RopeScaling):
        stated = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            ORIGINAL: scaling.original_max_positions,
        }
    return {"rope_theta": config.rope_theta, "rope_scaling": stated}
