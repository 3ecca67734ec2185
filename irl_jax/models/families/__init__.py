"""The model families that the decoder computes, by the `model_type` of their config.json."""

from __future__ import annotations

from irl_jax.models.families import (
    gemma2,
    gemma3,
    llama,
    mistral,
    mixtral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
)
from irl_jax.models.families.family import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "gemma2": gemma2.FAMILY,
    "gemma3_text": gemma3.FAMILY,
    "olmo2": olmo2.FAMILY,
    "phi3": phi3.FAMILY,
    "smollm3": smollm3.FAMILY,
    "mixtral": mixtral.FAMILY,
    "qwen3_moe": qwen3_moe.FAMILY,
}
"""model_type -> how such a model is read and written."""

REFUSED = {"gemma3": "it also reads images; save its language model alone, as gemma3_text"}
"""model_type -> why it is not among them."""
