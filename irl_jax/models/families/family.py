"""What one family of models differs in: fields of config.json, switches, tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.rope import read_rope

COMMON: dict[str, Any] = {
    "attention_dropout": 0.0,
    "head_dim": None,
    "hidden_act": "silu",
    "is_causal": True,
    "num_key_value_heads": None,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "rms_norm_eps": 1e-6,
    "rope_parameters": None,
    "rope_scaling": None,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
"""Optional field -> its value where it is absent, as most families have it."""

ONLY: dict[str, tuple[Any, ...]] = {
    "attention_dropout": (0.0, None),
    "hidden_act": ("silu", "swish"),
    "is_causal": (True, None),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}
"""Field -> the values that the decoder computes; the first one is named in messages."""

LAYER = "model.layers.{}."
ATTENTION = {
    "attn/q/kernel": "self_attn.q_proj.weight",
    "attn/k/kernel": "self_attn.k_proj.weight",
    "attn/v/kernel": "self_attn.v_proj.weight",
    "attn/q/bias": "self_attn.q_proj.bias",
    "attn/k/bias": "self_attn.k_proj.bias",
    "attn/v/bias": "self_attn.v_proj.bias",
    "attn/o/kernel": "self_attn.o_proj.weight",
    "attn/o/bias": "self_attn.o_proj.bias",
}
QK_NORM = {
    "attn/q_norm/scale": "self_attn.q_norm.weight",
    "attn/k_norm/scale": "self_attn.k_norm.weight",
}
MLP = {
    "mlp/gate/kernel": "mlp.gate_proj.weight",
    "mlp/up/kernel": "mlp.up_proj.weight",
    "mlp/down/kernel": "mlp.down_proj.weight",
    "mlp/gate/bias": "mlp.gate_proj.bias",
    "mlp/up/bias": "mlp.up_proj.bias",
    "mlp/down/bias": "mlp.down_proj.bias",
}
NORMS = {
    "attn_norm/scale": "input_layernorm.weight",
    "mlp_norm/scale": "post_attention_layernorm.weight",
}


def names(*of_a_layer: Mapping[str, str]) -> dict[str, str]:
    """Parameter path -> tensor name, {} for the number of the layer.

    Args:
        *of_a_layer: the same without "layers/" and without `LAYER`.
    """
    inner = {path: name for part in of_a_layer for path, name in part.items()}
    return {
        "embed/embedding": "model.embed_tokens.weight",
        **{f"layers/{path}": LAYER + name for path, name in inner.items()},
        "final_norm/scale": "model.norm.weight",
        "unembed/kernel": "lm_head.weight",
    }


@dataclass(frozen=True)
class Family:
    """How models of one `model_type` are read and written.

    Attributes:
        architecture: class of transformers that loads them.
        defaults: every optional field that the computation depends on -> its value where
            it is absent.
        only: field -> the values that the decoder computes.
        names: parameter path -> tensor name, with {} for the number of the layer.
        switches: fields and context length -> the arguments of `DecoderConfig` in which
            the family differs from Llama.
        fields: configuration -> the fields of config.json that not all families have.
        rope: fields and context length -> base and scaling of the rotary frequencies, as
            arguments of `DecoderConfig`.
        reward_architecture: class of transformers that loads reward models of the family; by
            default as it is named in most.
    """

    architecture: str
    defaults: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]]
    names: Mapping[str, str]
    switches: Callable[[Fields, int], dict[str, Any]]
    fields: Callable[[DecoderConfig], dict[str, Any]]
    rope: Callable[[Fields, int], dict[str, Any]] = read_rope
    reward_architecture: str = ""

    def __post_init__(self) -> None:
        if not self.reward_architecture:
            name = self.architecture.replace("ForCausalLM", "ForSequenceClassification")
            object.__setattr__(self, "reward_architecture", name)
