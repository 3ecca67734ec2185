"""Gemma 3, text alone: Gemma 2 with norms of queries and keys, and a base for local layers.

Reference: Gemma Team 2025, "Gemma 3 Technical Report", arXiv 2503.19786.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig, LinearScaling
from irl_jax.models.families.family import ATTENTION, MLP, QK_NORM, Family, names
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.gemma2 import DEFAULTS, GEMMA_ONLY, NORMS, read_gemma, write_gemma
from irl_jax.models.families.rope import read_rope
from irl_jax.models.families.windows import FULL, SLIDING, read_windows, sliding_layers


def read_ropes(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Base and scaling of the layers that see all, and the base of those with a window.

    They stand in `rope_theta`, `rope_scaling` and `rope_local_base_freq`, or in
    `rope_parameters` for each kind of layer (transformers 5).

    Args:
        fields: of config.json.
        max_positions: context length in tokens.

    Raises:
        InputError: if they are not stated so, or scale otherwise than linearly.
    """
    stated = fields["rope_parameters"] or {}
    if not isinstance(stated, dict) or not set(stated) <= {FULL, SLIDING}:
        raise fields.error(f"rope_parameters: expected an object of {FULL} and {SLIDING}")
    if not isinstance(fields["rope_scaling"] or {}, dict):
        raise fields.error("rope_scaling: expected an object")
    everywhere = {**(stated.get(FULL) or {}), **(fields["rope_scaling"] or {})}
    of = lambda rope, theta: read_rope(
        Fields(fields.path, {"rope_parameters": rope, "rope_theta": theta}), max_positions
    )
    found = of(everywhere, fields["rope_theta"])
    local = of(stated.get(SLIDING) or {}, fields["rope_local_base_freq"])
    if "rope_scaling" in local or not isinstance(found.get("rope_scaling"), LinearScaling | None):
        raise fields.error("rope_parameters: only linear scaling, of full_attention, is supported")
    return found | {"local_rope_theta": local["rope_theta"]}


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Those of Gemma, and windows in all layers but each sixth."""
    period = fields.count("sliding_window_pattern")
    slides = sliding_layers(fields, lambda layer: (layer + 1) % period != 0)
    return {
        "family": "gemma3_text",
        "qk_norm": "head",
        "ropes": tuple("local" if slide else "global" for slide in slides),
        **read_gemma(fields),
        **read_windows(fields, slides, max_positions),
    }


def write(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `switches` and `read_ropes`."""
    ropes = config.ropes or ["global"] * config.n_layers
    return write_gemma(config) | {
        "layer_types": [SLIDING if rope == "local" else FULL for rope in ropes],
        "rope_local_base_freq": config.local_rope_theta,
    }


FAMILY = Family(
    architecture="Gemma3ForCausalLM",
    reward_architecture="Gemma3TextForSequenceClassification",
    defaults=DEFAULTS
    | {
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_local_base_freq": 10_000.0,
        "rope_theta": 1_000_000.0,
        "sliding_window_pattern": 6,
    },
    only=GEMMA_ONLY | {"attn_logit_softcapping": (None,)},  # stated, transformers ignores it
    names=names(ATTENTION, QK_NORM, MLP, NORMS),
    switches=switches,
    fields=write,
    rope=read_ropes,
)
