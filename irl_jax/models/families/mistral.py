"""Mistral: one sliding window in every layer, or none.

Reference: Jiang et al. 2023, "Mistral 7B", arXiv 2310.06825.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.families.family import COMMON, ONLY, Family
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.llama import NAMES
from irl_jax.models.families.windows import read_windows, widest


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The window, where it cuts the context."""
    slides = fields["sliding_window"] is not None
    return read_windows(fields, [slides] * fields.count("num_hidden_layers"), max_positions)


FAMILY = Family(
    architecture="MistralForCausalLM",
    defaults=COMMON | {"num_key_value_heads": 8, "sliding_window": 4096},
    only=ONLY,
    names=NAMES,
    switches=switches,
    fields=lambda config: {"sliding_window": widest(config)},
)
