"""Qwen3: RMSNorm of each head's queries and keys, no biases; windows as in Qwen2.

Reference: Yang et al. 2025, "Qwen3 Technical Report", arXiv 2505.09388.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.families.family import (
    ATTENTION,
    COMMON,
    MLP,
    NORMS,
    ONLY,
    QK_NORM,
    Family,
    names,
)
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.windows import QWEN, read_qwen_windows, write_qwen_windows


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The norms, the biases that no published model has, and the windows."""
    bias = fields.flag("attention_bias")
    return {
        "family": "qwen3",
        "qk_norm": "head",
        "attention_bias": bias,
        "output_bias": bias,
        **read_qwen_windows(fields, max_positions),
    }


FAMILY = Family(
    architecture="Qwen3ForCausalLM",
    defaults=COMMON | QWEN | {"attention_bias": False, "head_dim": 128, "num_key_value_heads": 32},
    only=ONLY,
    names=names(ATTENTION, QK_NORM, MLP, NORMS),
    switches=switches,
    fields=lambda config: {
        "attention_bias": config.attention_bias,
        **write_qwen_windows(config),
    },
)
