"""A tiny decoder and data for it, shared by the tests of training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax.losses.demonstration import nll
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.logprob import sequence_logp
from irl_jax.train.state import init_state
from irl_jax.types import Demonstration

CONFIG = DecoderConfig(
    vocab_size=32,
    d_model=16,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=4,
    d_ff=24,
    max_positions=16,
    tie_embeddings=False,
    attention_bias=True,
)
# SGD: an update is linear in the gradient, so that equal updates mean equal gradients
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))


def objective(params, batch, key):
    del key
    logp = sequence_logp(CONFIG, params, batch.tokens, batch.segment)
    return nll(logp, batch)


def demonstrations(rows=16, length=12, seed=0):
    """Rows of very unequal lengths, one of them with nothing to predict."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CONFIG.vocab_size, (rows, length)).astype(np.int32)
    lengths = rng.integers(2, length + 1, rows)
    segment = (np.arange(length) < lengths[:, None]).astype(np.int32)
    mask = (segment > 0) & (np.arange(length) >= 1)
    mask[3] = False
    return Demonstration(tokens=tokens, mask=mask, segment=segment)


def new_state(seed=0):
    return init_state(init_params(CONFIG, jax.random.key(seed)), TX, jax.random.key(seed + 1))


def params_vector(state):
    """All parameters in one f64 vector."""
    leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(state.params)]
    return np.concatenate(leaves)


def assert_close(actual, expected, rtol=1e-5):
    """|actual - expected| ≤ rtol · max |expected|, leaf by leaf."""
    for path, x in jax.tree_util.tree_leaves_with_path(expected):
        y = actual
        for key in path:
            y = y[getattr(key, "key", getattr(key, "idx", None))]
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert np.abs(x - y).max() <= rtol * max(np.abs(x).max(), 1e-30), (
            jax.tree_util.keystr(path),
            np.abs(x - y).max(),
        )


def assert_same_bits(actual, expected):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(bits(x), bits(y)), actual, expected)


def bits(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.ascontiguousarray(np.asarray(x)).view(np.uint8)
