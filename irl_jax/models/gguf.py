"""Reading a decoder from a GGUF file, the format of llama.cpp.

Quantised tensors become f32 exactly as their format defines them. Nothing in the
file that changes the computation is passed over: a metadata key or a tensor that
this decoder has no place for is an error.

Reference: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.models.decoder_config import DecoderConfig, RopeScaling
from irl_jax.models.layout import assemble, check_tensors, param_shapes, slots
from irl_jax.types import InputError, PyTree

NAMES = {
    "embed/embedding": "token_embd.weight",
    "layers/attn_norm/scale": "blk.{}.attn_norm.weight",
    "layers/attn/q/kernel": "blk.{}.attn_q.weight",
    "layers/attn/k/kernel": "blk.{}.attn_k.weight",
    "layers/attn/v/kernel": "blk.{}.attn_v.weight",
    "layers/attn/o/kernel": "blk.{}.attn_output.weight",
    "layers/mlp_norm/scale": "blk.{}.ffn_norm.weight",
    "layers/mlp/gate/kernel": "blk.{}.ffn_gate.weight",
    "layers/mlp/up/kernel": "blk.{}.ffn_up.weight",
    "layers/mlp/down/kernel": "blk.{}.ffn_down.weight",
    "final_norm/scale": "output_norm.weight",
    "unembed/kernel": "output.weight",
}
"""Parameter path -> GGUF tensor name."""

PREFIX = "llama."

NEUTRAL: dict[str, Any] = {
    "attention.causal": True,
    "rope.scale_linear": 1.0,
    "rope.scaling.factor": 1.0,
    "rope.scaling.type": "none",
}
"""Metadata that changes nothing at this value; any other key must be zero or false."""

ROPE_DIVISORS = "rope_freqs.weight"
"""Tensor f32[H / 2] by which Llama 3.1 files divide the rotary frequencies."""


def load_gguf(path: str | Path) -> tuple[DecoderConfig, PyTree]:
    """Reads configuration and parameters of a Llama-architecture GGUF file.

    Args:
        path: the file.

    Returns:
        The configuration and a nested dict of numpy f32 arrays.

    Raises:
        InputError: if the package `gguf` is missing, the file is missing, truncated or
            no GGUF file, its architecture is not `llama`, or it holds metadata or
            tensors that the decoder does not compute with.
    """
    path = Path(path)
    reader = open_gguf(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shapes = {name: tuple(t.shape.tolist())[::-1] for name, t in tensors.items()}
    config = read_config(path, reader, shapes)
    shapes.pop(ROPE_DIVISORS, None)
    needed = param_shapes(config)
    wanted = slots(needed, NAMES)
    check_tensors(str(path), wanted, shapes)

    def read(name: str) -> np.ndarray:
        tensor = dequantize(path, tensors[name])
        if name.endswith("attn_q.weight"):
            return interleaved_to_half_split(tensor, config.n_heads)
        if name.endswith("attn_k.weight"):
            return interleaved_to_half_split(tensor, config.n_kv_heads)
        return tensor

    return config, assemble(needed, wanted, read)


def open_gguf(path: Path) -> Any:
    """The `gguf.GGUFReader` of a file.

    Raises:
        InputError: as `load_gguf`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        import gguf
    except ImportError as error:
        raise InputError(
            f'{path}: reading GGUF needs the package gguf: pip install "irl_jax[demo]"'
        ) from error
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise InputError(f"{path}: not a GGUF file, or truncated ({error})") from error


def dequantize(path: Path, tensor: Any) -> np.ndarray:
    """A tensor as f32, [D_out, D_in].

    Raises:
        InputError: if its quantisation is unknown to the package `gguf`.
    """
    import gguf

    try:
        return gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise InputError(
            f"{path}: tensor {tensor.name}: quantisation {tensor.tensor_type.name} is not "
            f"supported by the installed gguf package"
        ) from error


def interleaved_to_half_split(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorders the rows of a q or k projection from GGUF's RoPE convention to ours.

    llama.cpp rotates rows (2i, 2i + 1) of a head together, the decoder rows
    (i, i + H / 2).

    Args:
        weight: f32[heads * H, D].
        heads: number of heads.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def read_config(path: Path, reader: Any, shapes: dict[str, tuple[int, ...]]) -> DecoderConfig:
    """The configuration from the metadata `llama.*`.

    Args:
        path: the file, named in messages.
        reader: a `gguf.GGUFReader`.
        shapes: tensor name -> shape.

    Raises:
        InputError: as `load_gguf`.
    """
    field = reader.get_field("general.architecture")
    architecture = None if field is None else field.contents()
    if architecture != "llama":
        raise InputError(f"{path}: architecture {architecture!r} is not supported; only 'llama'")
    left = {
        name.removeprefix(PREFIX): field.contents()
        for name, field in reader.fields.items()
        if name.startswith(PREFIX)
    }
    count = lambda key, default=None: int(take(path, left, key, int, default))
    d_model, n_heads = count("embedding_length"), count("attention.head_count")
    head_dim = count("attention.key_length", d_model // n_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        size = count(key, head_dim)
        if size != head_dim:
            raise InputError(
                f"{path}: metadata {PREFIX}{key} = {size} differs from the head size {head_dim}; "
                "not supported"
            )
    rope_theta = take(path, left, "rope.freq_base", float, 10_000.0)
    embedding = shapes.get(NAMES["embed/embedding"], (None,))
    shape: dict[str, Any] = {
        "vocab_size": count("vocab_size", embedding[0]),
        "d_model": d_model,
        "n_layers": count("block_count"),
        "n_heads": n_heads,
        "n_kv_heads": count("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "d_ff": count("feed_forward_length"),
        "max_positions": count("context_length"),
        "norm_eps": take(path, left, "attention.layer_norm_rms_epsilon", float),
    }
    for key, value in left.items():
        if value != NEUTRAL.get(key, 0):
            raise InputError(f"{path}: metadata {PREFIX}{key} = {value!r} is not supported")
    shape["rope_scaling"] = read_rope_scaling(path, reader, rope_theta, head_dim)
    tie_embeddings = NAMES["unembed/kernel"] not in shapes
    try:
        return DecoderConfig(**shape, rope_theta=rope_theta, tie_embeddings=tie_embeddings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def take(
    path: Path, left: dict[str, Any], key: str, kind: type[float], default: float | None = None
) -> float:
    """Removes a positive number from the metadata.

    Args:
        path: the file, named in messages.
        left: metadata not yet read, without its prefix.
        key: what to read.
        kind: int or float.
        default: if the key is absent.

    Raises:
        InputError: naming the file and the key.
    """
    value = left.pop(key, default)
    if value is None:
        raise InputError(f"{path}: metadata {PREFIX}{key} is missing")
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or value <= 0:
        raise InputError(
            f"{path}: metadata {PREFIX}{key}: expected a positive {kind.__name__}, found {value!r}"
        )
    return value if isinstance(value, int) else shortest_float(value)


def shortest_float(value: float) -> float:
    """The shortest decimal that is this f32: 9.99999974e-06 -> 1e-05."""
    return float(str(np.float32(value)))


def read_rope_scaling(path: Path, reader: Any, theta: float, head_dim: int) -> RopeScaling | None:
    """Llama 3.1's scaling, which GGUF keeps as one divisor for each frequency.

    The divisors name only the factor; the other numbers are those of every released
    Llama 3 model (1, 4, 8,192 positions), and are checked against the divisors.

    Raises:
        InputError: if the divisors are not those of Llama 3.1.
    """
    tensor = next((t for t in reader.tensors if t.name == ROPE_DIVISORS), None)
    if tensor is None:
        return None
    divisors = np.asarray(dequantize(path, tensor), np.float64)
    scaling = RopeScaling(shortest_float(float(np.max(divisors))), 1.0, 4.0, 8192)
    half = head_dim // 2
    rotations = scaling.original_max_positions * theta ** (-np.arange(half) / half) / (2 * np.pi)
    smooth = np.clip((rotations - 1.0) / 3.0, 0.0, 1.0)
    expected = 1.0 / ((1.0 - smooth) / scaling.factor + smooth)
    if divisors.shape != (half,) or not np.allclose(divisors, expected, rtol=1e-4):
        raise InputError(
            f"{path}: tensor {ROPE_DIVISORS} {list(divisors.shape)} is not the frequency scaling "
            "of Llama 3.1; not supported"
        )
    return scaling
