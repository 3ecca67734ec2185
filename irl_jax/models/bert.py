"""A BERT encoder that turns texts into unit vectors: all-MiniLM-L6-v2 and its kind.

Reference: Devlin et al. 2019, "BERT", arXiv 1810.04805; Reimers & Gurevych 2019,
"Sentence-BERT", arXiv 1908.10084; Wang et al. 2020, "MiniLM", arXiv 2002.10957.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax import Array

from irl_jax.files import read_object
from irl_jax.models.attention import attend
from irl_jax.models.heads import pool
from irl_jax.models.huggingface import open_tensors, read_params
from irl_jax.models.huggingface_config import WHOLE
from irl_jax.models.linear import Linear
from irl_jax.types import InputError, PyTree


@dataclass(frozen=True)
class BertConfig:
    """The shape of an encoder.

    Attributes:
        vocab_size: V.
        d_model: D.
        n_layers: L.
        n_heads: heads of D / n_heads each.
        d_ff: width of the MLP.
        max_positions: tokens of a text, at most.
        n_types: rows of the table of token types, of which the first is used.
        norm_eps: epsilon of LayerNorm.
        dtype: compute dtype of the layers.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    max_positions: int
    n_types: int = 2
    norm_eps: float = 1e-12
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raises `InputError` unless the heads share the width evenly."""
        if self.d_model % self.n_heads:
            raise InputError(f"n_heads: {self.n_heads} does not divide d_model {self.d_model}")


class Layer(nn.Module):
    """Attention and MLP, each followed by LayerNorm of its sum with its input."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, None]:
        """f[B, T, D], bool[B, T] -> f[B, T, D]."""
        c = self.config
        norm = partial(nn.LayerNorm, epsilon=c.norm_eps, dtype=c.dtype)
        heads = lambda name: Linear(c.d_model, use_bias=True, name=name)(x).reshape(
            *x.shape[:2], c.n_heads, -1
        )
        query = heads("q").transpose(0, 2, 1, 3)[:, :, None, None]
        key, value = heads("k").transpose(0, 2, 3, 1), heads("v").transpose(0, 2, 1, 3)
        out = attend(query, [key], [value], [mask[:, None, None, None, None]])
        out = out[:, :, 0, 0].transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(name="attn_norm")(x + Linear(c.d_model, use_bias=True, name="o")(out))
        inner = nn.gelu(Linear(c.d_ff, use_bias=True, name="up")(x), approximate=False)
        x = norm(name="mlp_norm")(x + Linear(c.d_model, use_bias=True, name="down")(inner))
        return x, None


class Bert(nn.Module):
    """Embeddings of tokens, positions and type, and L layers as one scan."""

    config: BertConfig

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """i32[B, T], bool[B, T] -> f[B, T, D]."""
        c = self.config
        table = lambda name, rows: nn.Embed(rows, c.d_model, dtype=c.dtype, name=name)
        x = table("word", c.vocab_size)(tokens) + table("type", c.n_types)(jnp.zeros_like(tokens))
        x += table("position", c.max_positions)(jnp.arange(tokens.shape[1]))
        x = nn.LayerNorm(epsilon=c.norm_eps, dtype=c.dtype, name="norm")(x)
        layers = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=c.n_layers,
        )
        x, _ = layers(c, name="layers")(x, mask)
        return x


@partial(jax.jit, static_argnames="config")
def encode(config: BertConfig, params: PyTree, tokens: Array, mask: Array) -> Array:
    """Unit vectors of texts: the mean of the last hidden states, divided by its norm.

    Args:
        config: the shape.
        params: nested dict of f32, layers stacked on a leading axis.
        tokens: i32[B, T], right-padded, with [CLS] and [SEP]; T at most
            `max_positions`.
        mask: bool[B, T], true on tokens.

    Returns:
        f32[B, D]; 0 where a row has no token.

    Raises:
        InputError: T exceeds the context of the model.
    """
    if tokens.shape[1] > config.max_positions:
        raise InputError(
            f"tokens: {tokens.shape[1]} columns exceed the encoder's context of "
            f"{config.max_positions}; truncate them"
        )
    hidden: Any = Bert(config).apply({"params": params}, tokens, mask)
    mean = pool(hidden, mask)
    return mean * jax.lax.rsqrt(jnp.maximum((mean * mean).sum(-1, keepdims=True), 1e-24))


PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
"""Part of a layer -> its tensors' name."""

NAMES = {
    "word/embedding": "embeddings.word_embeddings.weight",
    "position/embedding": "embeddings.position_embeddings.weight",
    "type/embedding": "embeddings.token_type_embeddings.weight",
    "norm/scale": "embeddings.LayerNorm.weight",
    "norm/bias": "embeddings.LayerNorm.bias",
    **{
        f"layers/{part}/{'scale' if part.endswith('norm') else 'kernel'}": (
            f"encoder.layer.{{}}.{name}.weight"
        )
        for part, name in PARTS.items()
    },
    **{f"layers/{part}/bias": f"encoder.layer.{{}}.{name}.bias" for part, name in PARTS.items()},
}
"""Parameter path -> tensor name."""

UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "d_ff",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "n_types",
    "layer_norm_eps": "norm_eps",
}
ONLY = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Fields of config.json that say what is computed, and what this module computes."""


def param_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of the encoder by its "/"-joined path."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    tree = jax.eval_shape(Bert(config).init, jax.random.key(0), tokens, tokens > 0)
    return {path: leaf.shape for path, leaf in flatten_dict(tree["params"], sep="/").items()}


def load_bert(directory: str | Path) -> tuple[BertConfig, PyTree]:
    """Reads a BERT encoder in Hugging Face's layout.

    Args:
        directory: holds config.json and model.safetensors; the pooler is not read.

    Returns:
        The configuration and a nested dict of numpy f32 arrays.

    Raises:
        InputError: if the directory is no such model, a file is damaged, a tensor is
            missing or has another shape, or config.json asks for another computation.
    """
    directory = Path(directory)
    place = directory / "config.json"
    raw = read_object(place, WHOLE)
    for name, value in ONLY.items():
        if raw.get(name, value if name != "model_type" else None) != value:
            raise InputError(f"{place}: {name} is {raw.get(name)!r}; only {value!r} is supported")
    missing = sorted(set(FIELDS) - set(raw))
    if missing:
        raise InputError(f"{place}: {missing[0]} is missing")
    config = BertConfig(**{ours: raw[theirs] for theirs, ours in FIELDS.items()})
    with contextlib.ExitStack() as stack:
        files = open_tensors(directory, stack)
        files = {name: file for name, file in files.items() if name not in UNUSED}
        return config, read_params(directory, files, param_shapes(config), NAMES)
