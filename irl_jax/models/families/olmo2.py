"""OLMo 2: norms after attention and MLP alone, and of all heads' queries and keys together.

Reference: OLMo Team 2024, "2 OLMo 2 Furious", arXiv 2501.00656.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.families.family import ATTENTION, COMMON, MLP, ONLY, QK_NORM, Family, names
from irl_jax.models.families.fields import Fields

NORMS = {
    "attn_post_norm/scale": "post_attention_layernorm.weight",
    "mlp_post_norm/scale": "post_feedforward_layernorm.weight",
}


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The norms, and the biases that no published model has."""
    bias = fields.flag("attention_bias")
    return {
        "family": "olmo2",
        "attention_bias": bias,
        "norms": "post",
        "output_bias": bias,
        "qk_norm": "width",
    }


FAMILY = Family(
    architecture="Olmo2ForCausalLM",
    defaults=COMMON | {"attention_bias": False, "rms_norm_eps": 1e-5},
    only=ONLY,
    names=names(ATTENTION, QK_NORM, MLP, NORMS),
    switches=switches,
    fields=lambda config: {"attention_bias": config.attention_bias},
)
