"""The model families that the decoder computes, by the `model_type` of their config.json."""

from __future__ import annotations

from irl_jax.models.families import llama, mistral, qwen2, qwen3
from irl_jax.models.families.family import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
}
"""model_type -> how such a model is read and written."""
