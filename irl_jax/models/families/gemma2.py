"""Gemma 2: soft caps, a window in every other layer, norms by 1 + scale before and after.

Reference: Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv
2408.00118.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families.family import ATTENTION, COMMON, MLP, ONLY, Family, names
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.windows import FULL, SLIDING, read_windows, sliding_layers, widest

NORMS = {
    "attn_norm/scale": "input_layernorm.weight",
    "attn_post_norm/scale": "post_attention_layernorm.weight",
    "mlp_norm/scale": "pre_feedforward_layernorm.weight",
    "mlp_post_norm/scale": "post_feedforward_layernorm.weight",
}
ACTIVATION = "gelu_pytorch_tanh"
DEFAULTS: dict[str, Any] = {
    name: value for name, value in COMMON.items() if name != "hidden_act"
} | {
    "attention_bias": False,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": ACTIVATION,
    "layer_types": None,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "use_bidirectional_attention": None,
}
GEMMA_ONLY = ONLY | {
    "hidden_activation": (ACTIVATION,),
    "use_bidirectional_attention": (False, None),
}


def read_gemma(fields: Fields) -> dict[str, Any]:
    """What Gemma 2 and 3 have in common."""
    bias = fields.flag("attention_bias")
    cap = lambda name: None if fields[name] is None else float(fields.positive(name, float))
    return {
        "activation": "gelu_tanh",
        "attention_bias": bias,
        "attention_softcap": cap("attn_logit_softcapping"),
        "logit_softcap": cap("final_logit_softcapping"),
        "norm_offset": True,
        "norms": "both",
        "output_bias": bias,
        "query_scalar": fields.positive("query_pre_attn_scalar", float),
        "scale_embeddings": True,
    }


def write_gemma(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `read_gemma`, and the width of the windows."""
    return {
        "attention_bias": config.attention_bias,
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "hidden_act": ACTIVATION,
        "hidden_activation": ACTIVATION,
        "query_pre_attn_scalar": config.query_scalar or config.head_dim,
        "sliding_window": widest(config) or config.max_positions,
    }


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """Those of Gemma, and windows in layers 0, 2, 4, ... unless `layer_types` says others."""
    slides = sliding_layers(fields, lambda layer: layer % 2 == 0)
    windows = read_windows(fields, slides, max_positions)
    return {"family": "gemma2", **read_gemma(fields), **windows}


def write(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `switches`."""
    windows = config.windows or [None] * config.n_layers
    layer_types = [FULL if window is None else SLIDING for window in windows]
    return write_gemma(config) | {"layer_types": layer_types}


FAMILY = Family(
    architecture="Gemma2ForCausalLM",
    defaults=DEFAULTS,
    only=GEMMA_ONLY,
    names=names(ATTENTION, MLP, NORMS),
    switches=switches,
    fields=write,
)
