"""A small decoder with no field at its default, and ragged prompts and completions for it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from irl_jax.models.decoder import forward
from irl_jax.models.decoder_config import DecoderConfig, RopeScaling
from irl_jax.models.layout import param_shapes
from irl_jax.types import Prompt

CONFIG = DecoderConfig(
    vocab_size=19,
    d_model=12,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=6,
    d_ff=20,
    max_positions=24,
    rope_theta=50.0,
    rope_scaling=RopeScaling(4.0, 1.0, 3.0, 12),
    norm_eps=1e-2,
    tie_embeddings=False,
    attention_bias=True,
)
SWITCHED = dataclasses.replace(
    CONFIG,
    n_layers=3,
    output_bias=True,
    mlp_bias=True,
    qk_norm="head",
    norms="both",
    norm_offset=True,
    scale_embeddings=True,
    activation="gelu_tanh",
    query_scalar=5.0,
    attention_softcap=1.5,
    logit_softcap=4.0,
    windows=(2, 3, None),
    ropes=("local", "none", "global"),
    local_rope_theta=9.0,
    rotary_dim=4,
)
"""Every switch at once."""

MIXED = dataclasses.replace(CONFIG, n_experts=5, experts_per_token=2)
"""A mixture of experts."""

CONFIGS = {"plain": CONFIG, "switched": SWITCHED, "mixed": MIXED}
PROMPTS = (3, 5, 1)  # tokens of each prompt
COMPLETIONS = ((4, 1), (0, 3), (2, 4))  # tokens of the completions of each prompt

run = jax.jit(forward, static_argnums=0)


def random_params(config, seed=0):
    """Parameters all of which matter: norms away from 1, biases away from 0."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        if path.endswith("scale"):
            return rng.normal(1.0, 0.3, shape)
        if path.endswith("bias"):
            return rng.normal(0.0, 0.3, shape)
        fan_in = 1 if path.startswith("embed") else shape[-2]
        return rng.normal(0.0, 1.2 * fan_in**-0.5, shape)

    flat = {path: jnp.float32(draw(path, shape)) for path, shape in param_shapes(config).items()}
    return unflatten_dict(flat, sep="/")


def context(config=CONFIG, seed=0, columns=5):
    """A left-padded `Prompt` of three rows; the padding holds tokens, too."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.vocab_size, (len(PROMPTS), columns)).astype(np.int32)
    mask = np.arange(columns) >= columns - np.array(PROMPTS)[:, None]
    return Prompt(jnp.asarray(tokens), jnp.asarray(mask))


def completions(config=CONFIG, seed=1):
    """Right-padded i32[3, 2, 4] tokens and their mask; the padding holds tokens, too."""
    lengths = np.array(COMPLETIONS)
    shape = (*lengths.shape, lengths.max())
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, shape).astype(np.int32)
    return jnp.asarray(tokens), jnp.asarray(np.arange(shape[-1]) < lengths[..., None])


def joined(prompt, action, mask):
    """(row, k, tokens of the prompt, tokens of the completion), without the padding."""
    tokens, inside, action, mask = map(np.asarray, (prompt.tokens, prompt.mask, action, mask))
    for b, k in np.ndindex(*mask.shape[:2]):
        yield b, k, tokens[b][inside[b]], action[b, k][mask[b, k]]


def assert_near(actual, expected, tolerance=1e-5):
    """|actual - expected| ≤ tolerance · max |expected|."""
    expected = np.asarray(expected, np.float64)
    assert np.shape(actual) == expected.shape
    if expected.size:
        error = np.abs(np.asarray(actual, np.float64) - expected).max()
        assert error <= tolerance * np.abs(expected).max(), error


def assert_trees_near(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda x, y: assert_near(x, y, tolerance), actual, expected)
