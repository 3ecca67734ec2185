"""Llama 2 and 3, SmolLM2: the decoder as it is without any switch, but for biases.

Reference: Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models", arXiv
2307.09288; Grattafiori et al. 2024, "The Llama 3 Herd of Models", arXiv 2407.21783; Ben Allal et
al. 2025, "SmolLM2: When Smol Goes Big", arXiv 2502.02737.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families.family import ATTENTION, COMMON, MLP, NORMS, ONLY, Family, names
from irl_jax.models.families.fields import Fields

NAMES = names(ATTENTION, MLP, NORMS)
"""Parameter path -> tensor name of Llama, Mistral and Qwen2."""


def read_biases(fields: Fields) -> dict[str, Any]:
    """`attention_bias`, which is of q, k, v and o alike, and `mlp_bias`."""
    attention = fields.flag("attention_bias")
    return {
        "attention_bias": attention,
        "output_bias": attention,
        "mlp_bias": fields.flag("mlp_bias"),
    }


def write_biases(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `read_biases`."""
    return {"attention_bias": config.output_bias, "mlp_bias": config.mlp_bias}


FAMILY = Family(
    architecture="LlamaForCausalLM",
    defaults=COMMON | {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    only=ONLY | {"pretraining_tp": (1, None)},
    names=NAMES,
    switches=lambda fields, max_positions: read_biases(fields),
    fields=write_biases,
)
