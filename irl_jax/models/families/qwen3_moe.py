"""Qwen3's mixtures of experts: Qwen3 with many small MLPs in a layer.

Reference: Yang et al. 2025, "Qwen3 Technical Report", arXiv 2505.09388.

Differs: models with an ordinary MLP in some layers are refused.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families import mistral
from irl_jax.models.families.family import ATTENTION, COMMON, NORMS, ONLY, QK_NORM, Family, names
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.windows import widest

EXPERTS = {
    "mlp/router/kernel": "mlp.gate.weight",
    "mlp/experts/gate/kernel": "mlp.experts.{}.gate_proj.weight",
    "mlp/experts/up/kernel": "mlp.experts.{}.up_proj.weight",
    "mlp/experts/down/kernel": "mlp.experts.{}.down_proj.weight",
}


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The norms, the experts, and a window that all layers have."""
    bias = fields.flag("attention_bias")
    windows = fields.flag("use_sliding_window")
    return {
        "family": "qwen3_moe",
        "qk_norm": "head",
        "attention_bias": bias,
        "output_bias": bias,
        "d_ff": fields.count("moe_intermediate_size"),
        "n_experts": fields.count("num_experts", fields["num_local_experts"] or 128),
        "experts_per_token": fields.count("num_experts_per_tok"),
        "normalize_experts": fields.flag("norm_topk_prob"),
        **(mistral.switches(fields, max_positions) if windows else {}),
    }


def write(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `switches`."""
    return {
        "attention_bias": config.attention_bias,
        "moe_intermediate_size": config.d_ff,
        "norm_topk_prob": config.normalize_experts,
        "num_experts": config.n_experts,
        "num_experts_per_tok": config.experts_per_token,
        "sliding_window": widest(config),
        "use_sliding_window": widest(config) is not None,
    }


FAMILY = Family(
    architecture="Qwen3MoeForCausalLM",
    defaults=COMMON
    | {
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": None,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
        "num_experts": None,
        "num_experts_per_tok": 8,
        "num_key_value_heads": 4,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
    only=ONLY | {"decoder_sparse_step": (1,), "mlp_only_layers": ([], None)},
    names=names(ATTENTION, QK_NORM, EXPERTS, NORMS),
    switches=switches,
    fields=write,
)
