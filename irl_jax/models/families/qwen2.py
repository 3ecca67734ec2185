"""Qwen2 and Qwen2.5: biases of q, k and v; a sliding window in some layers, or in none.

Reference: Yang et al. 2024, "Qwen2 Technical Report", arXiv 2407.10671; Yang et al. 2024,
"Qwen2.5 Technical Report", arXiv 2412.15115.
"""

from __future__ import annotations

from irl_jax.models.families.family import COMMON, ONLY, Family
from irl_jax.models.families.llama import NAMES
from irl_jax.models.families.windows import QWEN, read_qwen_windows, write_qwen_windows

FAMILY = Family(
    architecture="Qwen2ForCausalLM",
    defaults=COMMON | QWEN | {"num_key_value_heads": 32},
    only=ONLY,
    names=NAMES,
    switches=lambda fields, max_positions: {
        "attention_bias": True,
        **read_qwen_windows(fields, max_positions),
    },
    fields=write_qwen_windows,
)
