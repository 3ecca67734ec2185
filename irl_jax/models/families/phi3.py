"""Phi-3: Mistral with q, k and v in one tensor, gate and up in another; part of a head rotated.

Reference: Abdin et al. 2024, "Phi-3 Technical Report: A Highly Capable Language Model Locally on
Your Phone", arXiv 2404.14219.

Differs: models whose context is extended by LongRoPE are refused: it rotates all tokens of a
sequence otherwise as soon as one lies beyond the original context.
"""

from __future__ import annotations

import json
import math
from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families import mistral
from irl_jax.models.families.family import COMMON, NORMS, ONLY, Family, names
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.rope import read_rope
from irl_jax.models.families.windows import widest

QKV, GATE_UP = "self_attn.qkv_proj.weight", "mlp.gate_up_proj.weight"
FUSED = {
    "attn/q/kernel": QKV,
    "attn/k/kernel": QKV,
    "attn/v/kernel": QKV,
    "attn/o/kernel": "self_attn.o_proj.weight",
    "mlp/gate/kernel": GATE_UP,
    "mlp/up/kernel": GATE_UP,
    "mlp/down/kernel": "mlp.down_proj.weight",
}


def read_part(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The base, and how many elements of a head are rotated.

    Args:
        fields: of config.json.
        max_positions: context length in tokens.

    Raises:
        InputError: if the frequencies are scaled.
    """
    stated = fields["rope_scaling"] or fields["rope_parameters"] or {}
    if not isinstance(stated, dict):
        raise fields.error(f"rope_scaling: expected an object, found {json.dumps(stated)}")
    rope_type = stated.get("rope_type", stated.get("type", "default"))
    if rope_type != "default":
        raise fields.error(
            f"RoPE type {json.dumps(rope_type)} is not supported in a phi3 model; only default"
        )
    name = "partial_rotary_factor"
    part = Fields(fields.path, {name: stated.get(name, fields[name])})
    rest = {key: value for key, value in stated.items() if key != name}
    found = read_rope(
        Fields(fields.path, {"rope_parameters": rest, "rope_theta": fields["rope_theta"]}),
        max_positions,
    )
    head_dim = fields.count(
        "head_dim", fields.count("hidden_size") // fields.count("num_attention_heads")
    )
    turned = int(head_dim * part.positive(name, float, 1.0))
    return found | ({} if turned == head_dim else {"rotary_dim": turned})


def write(config: DecoderConfig) -> dict[str, Any]:
    """The window, and the part of a head that is rotated."""
    turned = config.rotary_dim or config.head_dim
    part = turned / config.head_dim
    if int(config.head_dim * part) < turned:
        part = math.nextafter(part, 1.0)
    return {"partial_rotary_factor": part, "sliding_window": widest(config)}


FAMILY = Family(
    architecture="Phi3ForCausalLM",
    defaults=COMMON
    | {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "rms_norm_eps": 1e-5, "sliding_window": None},
    only={name: allowed for name, allowed in ONLY.items() if name != "partial_rotary_factor"}
    | {"embd_pdrop": (0.0, None), "resid_pdrop": (0.0, None)},
    names=names(FUSED, NORMS),
    switches=lambda fields, max_positions: {
        "family": "phi3",
        **mistral.switches(fields, max_positions),
    },
    fields=write,
    rope=read_part,
)
