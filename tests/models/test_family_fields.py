"""config.json of every family, without transformers: defaults, refusals, written and read."""

import json
from pathlib import Path

import pytest

from irl_jax.models.decoder_config import LinearScaling
from irl_jax.models.families import FAMILIES
from irl_jax.models.huggingface_config import config_of, write_config
from irl_jax.types import InputError

PLACE = Path("model/config.json")
BASE = {
    "vocab_size": 19,
    "hidden_size": 12,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 10,
    "max_position_embeddings": 5000,
}
KV = {"num_key_value_heads": 2}


def read(model_type, **fields):
    return config_of(PLACE, BASE | KV | {"model_type": model_type} | fields)


DEFAULTS = {
    "llama": {"rope_theta": 1e4, "norm_eps": 1e-6, "tie_embeddings": False},
    "mistral": {"windows": (4096,) * 6},
    "qwen2": {"attention_bias": True, "output_bias": False, "windows": ()},
    "qwen3": {"head_dim": 128, "qk_norm": "head", "attention_bias": False, "windows": ()},
    "gemma2": {
        "head_dim": 256,
        "query_scalar": 256,
        "attention_softcap": 50.0,
        "logit_softcap": 30.0,
        "windows": (4096, None) * 3,
        "tie_embeddings": True,
        "activation": "gelu_tanh",
        "norms": "both",
    },
    "gemma3_text": {
        "rope_theta": 1e6,
        "local_rope_theta": 1e4,
        "ropes": ("local",) * 5 + ("global",),
        "windows": (4096,) * 5 + (None,),
        "attention_softcap": None,
        "logit_softcap": None,
    },
    "olmo2": {"norm_eps": 1e-5, "norms": "post", "qk_norm": "width"},
    "phi3": {"norm_eps": 1e-5, "windows": (), "rotary_dim": None},
    "smollm3": {
        "rope_theta": 2e6,
        "ropes": ("global",) * 3 + ("none",) + ("global",) * 2,
        "tie_embeddings": True,
    },
    "mixtral": {
        "rope_theta": 1e6,
        "norm_eps": 1e-5,
        "n_experts": 8,
        "experts_per_token": 2,
        "normalize_experts": True,
    },
    "qwen3_moe": {
        "n_experts": 128,
        "experts_per_token": 8,
        "d_ff": 768,
        "normalize_experts": False,
        "windows": (),
    },
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_absent_fields_have_the_defaults_of_transformers(model_type):
    given = {} if "head_dim" in DEFAULTS[model_type] else {"head_dim": 4}
    config = read(model_type, **given)
    for name, value in DEFAULTS[model_type].items():
        assert getattr(config, name) == value, name
    assert config.family == (model_type if model_type not in ("mistral", "qwen2") else "llama")


def test_the_width_of_a_head_is_its_share_of_the_model():
    assert read("llama", hidden_size=24).head_dim == 6
    with pytest.raises(InputError, match="head_dim: RoPE needs an even size, got 3"):
        read("llama")


FIELDS = {  # off their defaults
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 7, "hidden_size": 14},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 9},
    "qwen3": {"attention_bias": True, "use_sliding_window": True, "max_window_layers": 1},
    "gemma2": {"query_pre_attn_scalar": 9, "final_logit_softcapping": None, "sliding_window": 3},
    "gemma3_text": {"rope_local_base_freq": 7.0, "sliding_window_pattern": 2}
    | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "olmo2": {"attention_bias": True},
    "phi3": {"partial_rotary_factor": 0.5, "sliding_window": 11},
    "smollm3": {"no_rope_layers": [0, 1, 1, 0, 1, 0], "use_sliding_window": True}
    | {"sliding_window": 5},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 4},
    "qwen3_moe": {"norm_topk_prob": True, "num_local_experts": 9, "use_sliding_window": True},
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_written_is_read(model_type):
    plain = read(model_type, head_dim=4)
    config = read(model_type, head_dim=4, **FIELDS[model_type])
    assert config != plain
    if "attention_bias" in FIELDS[model_type]:
        assert config.attention_bias and config.output_bias
    for c in (plain, config):
        fields = json.loads(json.dumps(write_config(c, "float32", None)))
        assert fields["model_type"] == model_type
        assert fields["architectures"] == [FAMILIES[model_type].architecture]
        assert config_of(PLACE, fields) == c


def test_the_number_of_experts_has_two_names():
    for name in ("num_experts", "num_local_experts"):
        assert read("qwen3_moe", head_dim=4, **{name: 9}).n_experts == 9


def test_rope_of_both_kinds_of_layers():
    """As transformers 4 and 5 write it."""
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5}
    local = {"rope_type": "default", "rope_theta": 300.0}
    new = read(
        "gemma3_text", rope_parameters={"full_attention": scaled, "sliding_attention": local}
    )
    assert (new.rope_theta, new.local_rope_theta) == (5e5, 300.0)
    assert new.rope_scaling == LinearScaling(8.0)
    old = {"rope_theta": 5e5, "rope_local_base_freq": 300.0}
    assert read("gemma3_text", **old, rope_scaling={"type": "linear", "factor": 8.0}) == new


@pytest.mark.parametrize(
    ("model_type", "fields", "words"),
    [
        ("gemma3", {}, ["gemma3", "images", "gemma3_text"]),
        ("gemma2", {"hidden_activation": "gelu"}, ["hidden_activation", "gelu_pytorch_tanh"]),
        ("gemma2", {"use_bidirectional_attention": True}, ["use_bidirectional_attention"]),
        ("gemma2", {"attn_logit_softcapping": 0.0}, ["attn_logit_softcapping", "positive"]),
        ("gemma2", {"sliding_window": None}, ["sliding_window", "null"]),
        ("gemma2", {"layer_types": ["full_attention"] * 5}, ["layer_types", "6"]),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, ["attn_logit_softcapping", "null"]),
        ("gemma3_text", {"sliding_window_pattern": 0}, ["sliding_window_pattern", "0"]),
        (
            "gemma3_text",
            {"rope_parameters": {"rope_type": "default"}},
            ["rope_parameters", "sliding_attention"],
        ),
        (
            "gemma3_text",
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            ["rope_parameters", "linear"],
        ),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            ["rope_parameters", "linear"],
        ),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, ["longrope", "phi3", "default"]),
        ("phi3", {"partial_rotary_factor": 0.3}, ["rotary_dim", "even"]),
        ("phi3", {"resid_pdrop": 0.1}, ["resid_pdrop", "0.1"]),
        ("smollm3", {"no_rope_layers": [1, 0]}, ["no_rope_layers", "6"]),
        ("smollm3", {"no_rope_layers": [1, 0, 2, 1, 1, 1]}, ["no_rope_layers", "0 or 1"]),
        ("smollm3", {"layer_types": ["sliding_attention"] * 6}, ["use_sliding_window"]),
        ("mixtral", {"num_experts_per_tok": 9}, ["experts_per_token", "8"]),
        ("mixtral", {"router_jitter_noise": 0.1}, ["router_jitter_noise", "0.1"]),
        ("qwen3_moe", {"decoder_sparse_step": 2}, ["decoder_sparse_step", "2"]),
        ("qwen3_moe", {"mlp_only_layers": [0]}, ["mlp_only_layers", "[0]"]),
        ("qwen3", {"hidden_act": "gelu"}, ["hidden_act", "gelu", "silu"]),
        ("olmo2", {"attention_bias": 1}, ["attention_bias", "true or false"]),
        ("qwen3", {"rope_theta": None}, ["rope_theta", "null"]),
    ],
)
def test_what_is_refused(model_type, fields, words):
    with pytest.raises(InputError) as caught:
        read(model_type, **{"head_dim": 4} | fields)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(PLACE), *words):
        assert word in message
