"""Hugging Face's config.json of a decoder, read and written.

The families (`irl_jax.models.families`) are one computation with different switches.
Nothing in a config.json that changes the computation is passed over: a field is either
read, or known to be without effect in that family, or an error.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families import FAMILIES, REFUSED
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.rope import write_rope
from irl_jax.types import InputError

WHOLE = "expected a whole Hugging Face model directory"
"""What to do about a file of a model that cannot be read."""

CAUSAL, CLASSIFIER = "ForCausalLM", "ForSequenceClassification"
"""Ends of the names of classes of transformers: a language model, a reward model."""

GENERATION = "generation_config.json"
"""File in which transformers looks first for where a completion ends."""


def read_config(path: Path) -> DecoderConfig:
    """The configuration of a language model from its config.json.

    Raises:
        InputError: naming the file and the field; it is a reward model's.
    """
    fields = read_object(path, WHOLE)
    found = architecture_of(fields)
    if found is not None and found.endswith(CLASSIFIER):
        raise InputError(
            f"{path.parent}: is a reward model ({found}), no language model; expected one that "
            f"ends in {CAUSAL}"
        )
    return config_of(path, fields)


def architecture_of(fields: Mapping[str, Any]) -> str | None:
    """The class of transformers that a config.json names; None if it names none."""
    given = fields.get("architectures")
    return given[0] if isinstance(given, list) and given and isinstance(given[0], str) else None


def config_of(path: Path, given: dict[str, Any]) -> DecoderConfig:
    """The configuration from the fields of a config.json.

    Args:
        path: the file, named in messages.
        given: its fields.

    Raises:
        InputError: naming the file and the field.
    """
    model_type = given.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        why = REFUSED.get(str(model_type), f"only {', '.join(FAMILIES)}")
        raise InputError(f"{path}: model_type {json.dumps(model_type)} is not supported; {why}")
    family = FAMILIES[model_type]
    fields = Fields(path, {**family.defaults, **given})
    fields.check(family.only, family.defaults)
    d_model, n_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    shape: dict[str, Any] = {
        "vocab_size": fields.count("vocab_size"),
        "d_model": d_model,
        "n_layers": fields.count("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": fields.count("num_key_value_heads", n_heads),
        "head_dim": fields.count("head_dim", d_model // n_heads),
        "d_ff": fields.count("intermediate_size"),
        "max_positions": fields.count("max_position_embeddings"),
        "norm_eps": float(fields.positive("rms_norm_eps", float)),
        "tie_embeddings": fields.flag("tie_word_embeddings"),
    }
    switches = family.switches(fields, shape["max_positions"])
    rope = family.rope(fields, shape["max_positions"])
    try:
        return DecoderConfig(**{**shape, **rope, **switches})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def model_type(config: DecoderConfig) -> str:
    """The family in whose layout a decoder is written.

    Raises:
        InputError: if there is no such family.
    """
    if config.family not in FAMILIES:
        raise InputError(
            f"config: family {config.family!r} is unknown; use one of {', '.join(FAMILIES)}"
        )
    if config.family != "llama":
        return config.family
    if config.attention_bias and not config.output_bias:
        return "qwen2"
    # transformers refuses a Llama whose heads do not divide its width
    return "mistral" if config.windows or config.d_model % config.n_heads else "llama"


def write_config(config: DecoderConfig, dtype: str, eos_token_id: int | None) -> dict[str, Any]:
    """The config.json of a decoder, for transformers 4 and 5.

    Args:
        config: the shape.
        dtype: dtype of the tensors.
        eos_token_id: the token that ends a generation, if any.

    Raises:
        InputError: if the family has no field for a part of the computation.
    """
    name = model_type(config)
    family = FAMILIES[name]
    fields = {
        "architectures": [family.architecture],
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_positions,
        "model_type": name,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "pad_token_id": None,
        "rms_norm_eps": config.norm_eps,
        **write_rope(config),
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": dtype,
        "vocab_size": config.vocab_size,
        **family.fields(config),
    }
    wanted, said = effective(config), effective(config_of(Path("config.json"), fields))
    for field in dataclasses.fields(DecoderConfig):
        if (value := getattr(wanted, field.name)) != getattr(said, field.name):
            raise InputError(
                f"config: {field.name} = {value!r} has no place in a {name} model; "
                "choose another family"
            )
    return fields


def effective(config: DecoderConfig) -> DecoderConfig:
    """The configuration without what no checkpoint holds or what changes nothing in it."""
    hides = lambda window: window is not None and window < config.max_positions
    windows = tuple(window if hides(window) else None for window in config.windows)
    return dataclasses.replace(
        config,
        used_vocab=None,
        remat="auto",
        attention_chunk=None,
        dtype="float32",
        windows=windows if any(windows) else (),
        ropes=config.ropes if set(config.ropes) != {"global"} else (),
        local_rope_theta=(config if "local" in config.ropes else DecoderConfig).local_rope_theta,
        query_scalar=None if config.query_scalar == config.head_dim else config.query_scalar,
        rotary_dim=None if config.rotary_dim == config.head_dim else config.rotary_dim,
    )
