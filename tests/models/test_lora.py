import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from irl_jax.models.decoder import DecoderConfig, forward, logits
from irl_jax.models.layout import param_shapes
from irl_jax.models.lora import attach, init_lora, merge
from irl_jax.types import InputError

CONFIG = DecoderConfig(
    vocab_size=17,
    d_model=12,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=6,
    d_ff=20,
    max_positions=16,
)
ALL = r"attn/|mlp/"
SCALE = 1.7


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(1)
    draw = lambda shape: jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)
    flat = {path: draw(shape) for path, shape in param_shapes(CONFIG).items()}
    return unflatten_dict(flat, sep="/")


@pytest.fixture(scope="module")
def lora(params):
    """A LoRA on all seven kernels with both factors away from zero."""
    rng = np.random.default_rng(0)
    start = init_lora(jax.random.key(1), params, 3, ALL)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32), start)


@jax.jit
def model(params):
    tokens = jnp.arange(2 * 9).reshape(2, 9) % CONFIG.vocab_size
    return logits(CONFIG, params, forward(CONFIG, params, tokens)[0])


def test_shapes_and_targets(params):
    lora = init_lora(jax.random.key(0), params, 3, r"attn/[qo]/kernel|mlp/down")
    shapes = {path: x.shape for path, x in flatten_dict(lora, sep="/").items()}
    assert shapes == {
        "layers/attn/q/a": (2, 12, 3),
        "layers/attn/q/b": (2, 3, 12),
        "layers/attn/o/a": (2, 12, 3),
        "layers/attn/o/b": (2, 3, 12),
        "layers/mlp/down/a": (2, 20, 3),
        "layers/mlp/down/b": (2, 3, 12),
    }
    default = flatten_dict(init_lora(jax.random.key(0), params, 3), sep="/")
    assert {path.split("/")[2] for path in default} == {"q", "v"}


def test_initial_factors(params):
    wide = {"layers": {"mlp": {"up": {"kernel": jnp.zeros((3, 400, 50))}}}}
    lora = init_lora(jax.random.key(0), wide, 40, "mlp")["layers"]["mlp"]["up"]
    np.testing.assert_array_equal(lora["b"], 0.0)
    np.testing.assert_allclose(lora["a"].std(), 400**-0.5, rtol=0.02)
    np.testing.assert_allclose(lora["a"].mean(), 0.0, atol=1e-3)
    pair = init_lora(jax.random.key(0), params, 3)["layers"]["attn"]
    assert not np.allclose(pair["q"]["a"], pair["v"]["a"])  # independent keys


def test_a_new_lora_changes_nothing(params):
    lora = init_lora(jax.random.key(1), params, 3, ALL)
    np.testing.assert_array_equal(model(attach(params, lora, SCALE)), model(params))
    jax.tree.map(np.testing.assert_array_equal, merge(params, lora, SCALE), params)


def test_attach_equals_merge(params, lora):
    attached, merged = model(attach(params, lora, SCALE)), model(merge(params, lora, SCALE))
    largest = np.abs(merged).max()
    np.testing.assert_allclose(attached, merged, atol=1e-5 * largest)
    assert np.abs(merged - model(params)).max() > 0.1 * largest


def test_merged_kernel(params, lora):
    """W + scale · A·B in float64, and the base is left as it was."""
    before = np.asarray(params["layers"]["mlp"]["down"]["kernel"]).copy()
    pair = lora["layers"]["mlp"]["down"]
    a, b = (np.asarray(pair[name], np.float64) for name in "ab")
    want = before + SCALE * np.stack([a[i] @ b[i] for i in range(CONFIG.n_layers)])
    got = merge(params, lora, SCALE)["layers"]["mlp"]["down"]["kernel"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(params["layers"]["mlp"]["down"]["kernel"], before)


def test_every_target_is_felt(params, lora):
    """The decoder reads the factors of each of its seven kernels."""
    zero = flatten_dict(jax.tree.map(jnp.zeros_like, lora))
    base = model(attach(params, unflatten_dict(zero), SCALE))
    parents = {path[:-1] for path in zero}
    assert len(parents) == 7
    for parent in parents:
        kept = {path: x for path, x in flatten_dict(lora).items() if path[:-1] == parent}
        one = unflatten_dict(zero | kept)
        assert np.abs(model(attach(params, one, SCALE)) - base).max() > 1e-2, parent


def test_gradient_is_the_chain_rule_through_merge(params, lora):
    """dA = scale · dW · Bᵀ and dB = scale · Aᵀ · dW, with dW of the merged model."""
    target = jax.random.normal(jax.random.key(2), (2, 9, CONFIG.vocab_size))
    loss = lambda p: jnp.mean((model(p) - target) ** 2)
    got = jax.grad(lambda x: loss(attach(params, x, SCALE)))(lora)
    through = jax.grad(loss)(merge(params, lora, SCALE))
    for group in ("attn", "mlp"):
        for name, pair in lora["layers"][group].items():
            dw = through["layers"][group][name]["kernel"]
            want_a = SCALE * dw @ pair["b"].swapaxes(-1, -2)
            want_b = SCALE * pair["a"].swapaxes(-1, -2) @ dw
            for want, leaf in ((want_a, "a"), (want_b, "b")):
                actual = got["layers"][group][name][leaf]
                largest = np.abs(want).max()
                assert largest > 0
                np.testing.assert_allclose(actual, want, atol=1e-4 * largest)


@pytest.mark.parametrize("targets", ["attn/query", "unembed", "embedding", "norm"])
def test_targets_that_match_nothing(params, targets):
    with pytest.raises(InputError, match=rf"targets: '{targets}' matches none of .*attn/q/kernel"):
        init_lora(jax.random.key(0), params, 2, targets)


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_rank_out_of_bounds(params, rank):
    with pytest.raises(InputError, match=rf"rank: {rank} is not between 1 and 6.*attn/[kv]"):
        init_lora(jax.random.key(0), params, rank, "attn")


def test_lora_of_another_model(params, lora):
    other = {"layers": {"attn": {"x": lora["layers"]["attn"]["q"]}}}
    swapped = {"layers": {"attn": {"k": lora["layers"]["attn"]["q"]}}}
    half = {"layers": {"attn": {"q": {"a": lora["layers"]["attn"]["q"]["a"]}}}}
    for transform in (attach, merge):
        with pytest.raises(InputError, match="layers/attn/x: the parameters have no such kernel"):
            transform(params, other, SCALE)
        with pytest.raises(InputError, match=r"layers/attn/k: .* do not fit the kernel"):
            transform(params, swapped, SCALE)
        with pytest.raises(InputError, match="layers/attn/q: needs both a and b"):
            transform(params, half, SCALE)
