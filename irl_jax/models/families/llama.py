"""Llama 2 and 3, SmolLM2: the decoder as it is without any switch.

Reference: Touvron et al. 2023, "Llama 2", arXiv 2307.09288; Grattafiori et al. 2024, "The
Llama 3 Herd of Models", arXiv 2407.21783; Ben Allal et al. 2025, "SmolLM2", arXiv 2502.02737.
"""

from __future__ import annotations

from irl_jax.models.families.family import ATTENTION, COMMON, MLP, NORMS, ONLY, Family, names

NAMES = names(ATTENTION, MLP, NORMS)
"""Parameter path -> tensor name of Llama, Mistral and Qwen2."""

FAMILY = Family(
    architecture="LlamaForCausalLM",
    defaults=COMMON | {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    only=ONLY
    | {
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "pretraining_tp": (1, None),
    },
    names=NAMES,
    switches=lambda fields, max_positions: {},
    fields=lambda config: {"attention_bias": False, "mlp_bias": False},
)
