"""Qwen2 and Qwen2.5: biases of q, k and v.

Reference: Yang et al. 2024, "Qwen2 Technical Report", arXiv 2407.10671; "Qwen2.5 Technical
Report", arXiv 2412.15115.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.families.family import COMMON, ONLY, Family, Fields
from irl_jax.models.families.llama import NAMES
from irl_jax.models.families.windows import check_window


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The biases; a window that cuts the context is refused."""
    layer_types = fields["layer_types"]
    if layer_types is None:
        slides = fields["max_window_layers"] < fields["num_hidden_layers"]
    else:
        slides = "sliding_attention" in layer_types
    if fields["use_sliding_window"] and slides:
        check_window(fields, max_positions)
    return {"attention_bias": True}


FAMILY = Family(
    architecture="Qwen2ForCausalLM",
    defaults=COMMON
    | {
        "layer_types": None,
        "max_window_layers": 28,
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
    only=ONLY,
    names=NAMES,
    switches=switches,
    fields=lambda config: {"use_sliding_window": False},
)
