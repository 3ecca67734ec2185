"""Hugging Face's config.json of a Llama, Mistral or Qwen2 model, read and written.

The three are one computation with different switches. Nothing in a config.json that
changes the computation is passed over: a field is either read, or known to be without
effect in that model, or an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig, RopeScaling
from irl_jax.types import InputError

WHOLE = "expected a whole Hugging Face model directory"
"""What to do about a file of a model that cannot be read."""

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
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": COMMON | {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    "mistral": COMMON | {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": COMMON
    | {
        "layer_types": None,
        "max_window_layers": 28,
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
}
"""model_type -> the value of every optional field that its computation depends on."""

ONLY: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False, None),
    "attention_dropout": (0.0, None),
    "hidden_act": ("silu", "swish"),
    "is_causal": (True, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1.0, None),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
}
"""Field -> the values that the decoder computes."""

GENERATION = "generation_config.json"
"""File in which transformers looks first for where a completion ends."""

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
ROPE_PARAMETERS = {"default": (), "llama3": LLAMA3}
"""RoPE type -> its parameters besides the base."""


def read_config(path: Path) -> DecoderConfig:
    """The configuration from a config.json.

    Raises:
        InputError: naming the file and the field.
    """
    given = read_object(path, WHOLE)
    model_type = given.get("model_type")
    if not isinstance(model_type, str) or model_type not in DEFAULTS:
        raise InputError(
            f"{path}: model_type {json.dumps(model_type)} is not supported; "
            f"only {', '.join(DEFAULTS)}"
        )
    fields = DEFAULTS[model_type] | given
    for name, allowed in ONLY.items():
        if name in DEFAULTS[model_type] and fields[name] not in allowed:
            raise InputError(
                f"{path}: {name} = {json.dumps(fields[name])} is not supported; "
                f"only {json.dumps(allowed[0])}"
            )
    count = lambda name, default=None: int(positive(path, fields, name, int, default))
    d_model, n_heads = count("hidden_size"), count("num_attention_heads")
    shape: dict[str, Any] = {
        "vocab_size": count("vocab_size"),
        "d_model": d_model,
        "n_layers": count("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": count("num_key_value_heads", n_heads),
        "head_dim": count("head_dim", d_model // n_heads),
        "d_ff": count("intermediate_size"),
        "max_positions": count("max_position_embeddings"),
        "norm_eps": float(positive(path, fields, "rms_norm_eps", float)),
    }
    check_full_attention(path, fields, shape["max_positions"])
    rope_theta, rope_scaling = read_rope(path, fields, shape["max_positions"])
    try:
        return DecoderConfig(
            **shape,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            tie_embeddings=bool(fields["tie_word_embeddings"]),
            attention_bias=model_type == "qwen2",
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def positive(
    path: Path,
    fields: Mapping[str, Any],
    name: str,
    kind: type[float],
    default: float | None = None,
) -> float:
    """A field that holds a positive number.

    Args:
        path: the config.json, named in messages.
        fields: its fields.
        name: the field.
        kind: int, or float, which an int will do for.
        default: stands in for null or a missing field.

    Raises:
        InputError: naming the file and the field.
    """
    value = fields.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or value <= 0:
        raise InputError(
            f"{path}: {name}: expected a positive {kind.__name__}, found {json.dumps(value)}"
        )
    return value


def check_full_attention(path: Path, fields: Mapping[str, Any], max_positions: int) -> None:
    """Raises `InputError` if a sliding window hides tokens within the context.

    Args:
        path: the config.json, named in messages.
        fields: its fields, defaults filled in.
        max_positions: context length in tokens.
    """
    model_type, window = fields["model_type"], fields.get("sliding_window")
    if model_type == "llama" or window is None:
        return
    if model_type == "qwen2":
        layer_types = fields["layer_types"]
        if layer_types is None:
            slides = fields["max_window_layers"] < fields["num_hidden_layers"]
        else:
            slides = "sliding_attention" in layer_types
        if not (fields["use_sliding_window"] and slides):
            return
    if positive(path, fields, "sliding_window", int) < max_positions:
        raise InputError(
            f"{path}: sliding_window = {window} is not supported; lower max_position_embeddings "
            f"({max_positions}) to it if longer sequences are not needed"
        )


def read_rope(
    path: Path, fields: Mapping[str, Any], max_positions: int
) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary frequencies.

    They stand in `rope_theta` and `rope_scaling`, or both in `rope_parameters`
    (transformers 5).

    Args:
        path: the config.json, named in messages.
        fields: its fields, defaults filled in.
        max_positions: stands in for a missing original context length.

    Raises:
        InputError: if the scaling is of another type than Llama 3.1's, or incomplete.
    """
    stated = fields["rope_scaling"] or fields["rope_parameters"] or {}
    if not isinstance(stated, dict):
        raise InputError(f"{path}: rope_scaling: expected an object, found {json.dumps(stated)}")
    rope = {name: value for name, value in stated.items() if value is not None}
    rope_type = rope.pop("rope_type", rope.get("type", "default"))
    rope.pop("type", None)
    if not isinstance(rope_type, str) or rope_type not in ROPE_PARAMETERS:
        raise InputError(
            f"{path}: RoPE type {json.dumps(rope_type)} is not supported; "
            f"only {', '.join(ROPE_PARAMETERS)}"
        )
    needed = ROPE_PARAMETERS[rope_type]
    rope.setdefault("rope_theta", fields["rope_theta"] or 10_000.0)
    if rope.pop("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{path}: partial_rotary_factor is not supported; only 1.0")
    if rope_type == "llama3":
        original = fields.get(LLAMA3[3]) or rope.get(LLAMA3[3]) or max_positions
        rope[LLAMA3[3]] = original
    for name in rope:
        if name not in ("rope_theta", *needed):
            raise InputError(f"{path}: RoPE parameter {name} is not supported (type {rope_type})")
    theta = positive(path, rope, "rope_theta", float)
    if rope_type == "default":
        return float(theta), None
    factor, low, high = (float(positive(path, rope, name, float)) for name in needed[:3])
    if low >= high:
        raise InputError(f"{path}: low_freq_factor {low} must be below high_freq_factor {high}")
    return float(theta), RopeScaling(factor, low, high, int(positive(path, rope, LLAMA3[3], int)))


def write_config(config: DecoderConfig, dtype: str, eos_token_id: int | None) -> dict[str, Any]:
    """The config.json of a decoder, for transformers 4 and 5.

    Args:
        config: the shape.
        dtype: dtype of the tensors.
        eos_token_id: the token that ends a generation, if any.
    """
    if config.attention_bias:
        model_type, architecture = "qwen2", "Qwen2ForCausalLM"
        switches: dict[str, Any] = {"use_sliding_window": False}
    elif config.d_model % config.n_heads:  # transformers refuses such a Llama
        model_type, architecture = "mistral", "MistralForCausalLM"
        switches = {"sliding_window": None}
    else:
        model_type, architecture = "llama", "LlamaForCausalLM"
        switches = {"attention_bias": False, "mlp_bias": False}
    scaling = config.rope_scaling
    rope_scaling = scaling and {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }
    return switches | {
        "architectures": [architecture],
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "model_type": model_type,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": rope_scaling,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": dtype,
        "vocab_size": config.vocab_size,
    }
