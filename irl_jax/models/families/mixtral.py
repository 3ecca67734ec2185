"""Mixtral: Mistral with eight MLPs in a layer, of which two serve a token.

Reference: Jiang et al. 2024, "Mixtral of Experts", arXiv 2401.04088.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families import mistral
from irl_jax.models.families.family import ATTENTION, COMMON, NORMS, ONLY, Family, names
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.windows import widest

EXPERTS = {
    "mlp/router/kernel": "block_sparse_moe.gate.weight",
    "mlp/experts/gate/kernel": "block_sparse_moe.experts.{}.w1.weight",
    "mlp/experts/up/kernel": "block_sparse_moe.experts.{}.w3.weight",
    "mlp/experts/down/kernel": "block_sparse_moe.experts.{}.w2.weight",
}


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The experts, whose weights always sum to 1, and the window."""
    return {
        "family": "mixtral",
        "n_experts": fields.count("num_local_experts"),
        "experts_per_token": fields.count("num_experts_per_tok"),
        "normalize_experts": True,
        **mistral.switches(fields, max_positions),
    }


def write(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `switches`."""
    return {
        "num_experts_per_tok": config.experts_per_token,
        "num_local_experts": config.n_experts,
        "sliding_window": widest(config),
    }


FAMILY = Family(
    architecture="MixtralForCausalLM",
    defaults=COMMON
    | {
        "num_experts_per_tok": 2,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "router_jitter_noise": 0.0,
        "sliding_window": None,
    },
    only=ONLY | {"router_jitter_noise": (0.0, None)},
    names=names(ATTENTION, EXPERTS, NORMS),
    switches=switches,
    fields=write,
)
