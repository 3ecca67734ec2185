"""Mistral.

Reference: Jiang et al. 2023, "Mistral 7B", arXiv 2310.06825.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.families.family import COMMON, ONLY, Family, Fields
from irl_jax.models.families.llama import NAMES
from irl_jax.models.families.windows import check_window


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Nothing, unless a window cuts the context."""
    check_window(fields, max_positions)
    return {}


FAMILY = Family(
    architecture="MistralForCausalLM",
    defaults=COMMON | {"num_key_value_heads": 8, "sliding_window": 4096},
    only=ONLY,
    names=NAMES,
    switches=switches,
    fields=lambda config: {"sliding_window": None},
)
