"""The decoder equals float64 arithmetic on plain sequences, however these are laid out."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import (
    Block,
    DecoderConfig,
    RMSNorm,
    embed,
    final_norm,
    forward,
    init_params,
    logits,
)
from irl_jax.models.decoder_config import LinearScaling, Remat, RopeScaling, YarnScaling
from irl_jax.models.features import completion_states
from irl_jax.models.lora import attach, init_lora, merge
from irl_jax.models.rope import rope_table
from irl_jax.types import InputError
from tests.models.cases import (
    CONFIG,
    CONFIGS,
    SWITCHED,
    assert_near,
    assert_trees_near,
    completions,
    context,
    joined,
    random_params,
    run,
)
from tests.oracles import decoder as oracle

OTHERS = {  # one field after the other at another value
    "one-kv-head": {"n_kv_heads": 1},
    "all-kv-heads-no-bias": {"n_kv_heads": 4, "attention_bias": False},
    "wide-heads": {"n_heads": 2, "n_kv_heads": 1, "head_dim": 10, "rope_theta": 3000.0},
    "tied-unscaled": {"tie_embeddings": True, "rope_scaling": None, "norm_eps": 0.3},
    "scaled-otherwise": {"rope_scaling": RopeScaling(2.0, 0.5, 8.0, 20), "n_layers": 1},
    "linear": {"rope_scaling": LinearScaling(3.0)},
    "yarn": {"rope_scaling": YarnScaling(4.0, 12, 2.0, 0.1, 1.2, False), "head_dim": 12},
    "yarn-truncated": {"rope_scaling": YarnScaling(3.0, 24, 1.5, 0.2, 0.9, True), "head_dim": 14},
    "biases": {"output_bias": True, "mlp_bias": True},
    "norm-of-heads": {"qk_norm": "head", "norm_offset": True},
    "norm-of-width": {"qk_norm": "width", "norms": "post"},
    "norms-around": {"norms": "both", "norm_offset": True, "activation": "gelu_tanh"},
    "capped": {"attention_softcap": 1.3, "logit_softcap": 2.0, "query_scalar": 3.0},
    "embeddings-scaled": {"scale_embeddings": True, "rotary_dim": 4},
    "windows": {"windows": (3, None), "ropes": ("local", "none"), "local_rope_theta": 7.0},
    "windows-and-yarn": {
        "windows": (1, 6),
        "ropes": ("global", "local"),
        "rope_scaling": YarnScaling(3.0, 24, 1.5, 0.2, 1.4, True),
        "local_rope_theta": 20.0,
    },
    "experts": {"n_experts": 5, "experts_per_token": 2},
    "experts-to-one": {"n_experts": 4, "experts_per_token": 3, "normalize_experts": True},
}


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def sequences(rows, length, seed=0):
    shape = (rows, length)
    return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, shape).astype(np.int32)


@pytest.mark.parametrize("changes", [{}, *OTHERS.values()], ids=["base", *OTHERS])
def test_forward_is_the_oracle(changes):
    config = dataclasses.replace(CONFIG, **changes)
    params, tokens = random_params(config, 1), sequences(2, 16)
    hidden, _ = run(config, params, tokens)
    scores = logits(config, params, hidden)
    assert hidden.dtype == scores.dtype == jnp.float32
    for row, sequence in enumerate(tokens):
        assert_near(hidden[row], oracle.hidden(config, params, sequence))
        assert_near(scores[row], oracle.logits(config, params, sequence))


@pytest.mark.parametrize(
    "change",
    [{"rope_theta": 60.0}, {"norm_eps": 2e-2}, {"rope_scaling": None}]
    + [
        {"rope_scaling": dataclasses.replace(CONFIG.rope_scaling, **{name: value})}
        for name, value in {
            "factor": 5.0,
            "low_freq_factor": 0.5,
            "high_freq_factor": 4.0,
            "original_max_positions": 14,
        }.items()
    ],
    ids=str,
)
def test_the_oracle_feels_the_field(params, change):
    """So that a field which `forward` ignored could not equal the oracle."""
    tokens = sequences(1, 16)[0]
    before = oracle.hidden(CONFIG, params, tokens)
    after = oracle.hidden(dataclasses.replace(CONFIG, **change), params, tokens)
    assert np.abs(after - before).max() > 1e-3


def test_far_positions():
    """The angles of a context of 8,192 tokens, against float64."""
    config = dataclasses.replace(CONFIG, rope_theta=5e5, max_positions=8192)
    cos, sin = rope_table(config, jnp.array([[0, 1, 8191]]))
    angle = np.outer([0, 1, 8191], oracle.frequencies(config))
    np.testing.assert_allclose(cos[0], np.cos(angle), atol=2e-3)
    np.testing.assert_allclose(sin[0], np.sin(angle), atol=2e-3)


def test_padding_on_either_side_changes_nothing(config):
    params = random_params(config)
    tokens, columns = sequences(4, 9), np.arange(9)
    mask = np.stack([columns >= 4, columns < 6, columns < 9, (columns >= 2) & (columns < 8)])
    hidden, kv = run(config, params, tokens, mask=mask)
    np.testing.assert_array_equal(kv.mask, mask)
    for row in range(4):
        assert_near(hidden[row][mask[row]], oracle.hidden(config, params, tokens[row, mask[row]]))
    assert np.isfinite(hidden).all()
    other = np.where(mask, tokens, (tokens + 1) % config.vocab_size)
    np.testing.assert_array_equal(run(config, params, other, mask=mask)[0][mask], hidden[mask])


def test_a_row_of_padding_is_finite(params):
    tokens, mask = sequences(4, 9), np.zeros((4, 9), bool)
    loss = lambda p: jnp.sum(forward(CONFIG, p, tokens, mask=mask)[0] ** 2)
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, grads)))


def test_packed_is_each_alone(config):
    params = random_params(config)
    tokens = sequences(2, 12)
    segment = np.array([[1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 0, 0], [7, 7, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4]])
    hidden, _ = run(config, params, tokens, segment=segment)
    for row, number in [(0, 1), (0, 2), (0, 3), (1, 7), (1, 4)]:
        own = segment[row] == number
        assert_near(hidden[row][own], oracle.hidden(config, params, tokens[row, own]))
    assert np.isfinite(hidden).all()


def test_a_branch_is_the_beginning_and_itself(config):
    """Two sequences in a row, one of which goes on in three ways."""
    params = random_params(config)
    tokens = sequences(1, 14)
    segment = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0]])
    branch = np.array([[0, 0, 0, 1, 1, 2, 3, 3, 3, 0, 0, 1, 0, 0]])
    if config.attention_chunk is not None:
        with pytest.raises(InputError, match="branch: needs packed rows and whole attention"):
            forward(config, params, tokens, segment=segment, branch=branch)
        return
    hidden, _ = run(config, params, tokens, segment=segment, branch=branch)
    for number, way in [(1, 1), (1, 2), (1, 3), (2, 1)]:
        own = (segment[0] == number) & np.isin(branch[0], (0, way))
        assert_near(hidden[0][own], oracle.hidden(config, params, tokens[0, own]))
    assert np.isfinite(hidden).all()
    with pytest.raises(InputError, match="branch: needs packed rows"):
        forward(CONFIG, params, tokens, branch=branch)


def test_a_shared_prompt_is_the_whole_sequence(config):
    """K completions on one encoding of their prompt: ragged on both sides of the join."""
    params = random_params(config)
    prompt, (action, mask) = context(), completions()
    _, prefix = run(config, params, prompt.tokens, mask=prompt.mask)
    assert prefix.v.shape == (config.n_layers, 3, config.n_kv_heads, 5, config.head_dim)
    hidden, _ = run(config, params, action, mask=mask, prefix=prefix)
    unmasked, _ = run(config, params, action, prefix=prefix)
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(config, params, np.concatenate([start, rest]))[len(start) :]
        assert_near(hidden[b, k, : len(rest)], want)
        assert_near(unmasked[b, k, : len(rest)], want)


def test_later_tokens_change_nothing_before(params):
    tokens = sequences(2, 16)
    before, _ = run(CONFIG, params, tokens)
    changed = tokens.copy()
    changed[:, 9] = (changed[:, 9] + 1) % CONFIG.vocab_size
    after, _ = run(CONFIG, params, changed)
    np.testing.assert_array_equal(after[:, :9], before[:, :9])
    assert (np.abs(after - before).max(-1)[:, 9:] > 1e-4).all()


def test_what_is_kept_changes_no_gradient(params):
    prompt, (action, mask) = context(), completions()
    _, prefix = run(CONFIG, params, prompt.tokens, mask=prompt.mask)

    def loss(config):
        def value(p):
            hidden, _ = forward(config, p, action, prefix=prefix)
            return jnp.sum(jnp.where(mask[..., None], jnp.sin(3 * hidden), 0.0))

        return value

    def kept(f):
        """Numbers that the forward pass keeps for the backward pass."""
        pullback = jax.eval_shape(lambda p: jax.vjp(f, p)[1], params)
        return sum(x.size for x in jax.tree.leaves(pullback))

    gradient = lambda f: jax.jit(jax.value_and_grad(f))(params)
    losses = {name: loss(dataclasses.replace(CONFIG, remat=name)) for name in get_args(Remat)}
    expected = gradient(losses["none"])
    for name in ("dots", "dots_no_batch", "full"):
        assert_trees_near(gradient(losses[name]), expected)
    sizes = {name: kept(f) for name, f in losses.items()}
    assert sizes["none"] > sizes["dots"] == sizes["auto"] > sizes["dots_no_batch"] > sizes["full"]
    assert sizes["full"] < 0.5 * sizes["dots"]


@pytest.mark.parametrize(
    "name",
    [
        "query_scalar",
        "attention_softcap",
        "logit_softcap",
        "windows",
        "ropes",
        "local_rope_theta",
        "rotary_dim",
        "activation",
        "scale_embeddings",
        "norm_offset",
    ],
)
def test_the_oracle_feels_the_switch(name):
    default = DecoderConfig.__dataclass_fields__[name].default
    assert getattr(SWITCHED, name) != default
    params, tokens = random_params(SWITCHED), sequences(1, 12)[0]
    before = oracle.logits(SWITCHED, params, tokens)
    after = oracle.logits(dataclasses.replace(SWITCHED, **{name: default}), params, tokens)
    assert np.abs(after - before).max() > 1e-3


def test_scan_is_a_loop_over_blocks(params):
    tokens = sequences(2, 16)
    rope = rope_table(CONFIG, jnp.arange(16)[None, None])
    x = embed(CONFIG, params, tokens[:, None])
    for i in range(CONFIG.n_layers):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"])
        masks = [jnp.tri(16, dtype=bool)[None, None, None, None]]
        x, _ = Block(CONFIG).apply({"params": layer}, x, None, rope, masks)
    assert_near(run(CONFIG, params, tokens)[0], final_norm(CONFIG, params, x)[:, 0])


def test_lora_beside_the_kernels_is_lora_merged(params):
    lora = init_lora(jax.random.key(0), params, 2, "attn|mlp")
    lora = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), lora)
    merged, tokens = merge(params, lora, 0.5), sequences(2, 16)
    want = oracle.hidden(CONFIG, merged, tokens[0])
    assert_near(run(CONFIG, attach(params, lora, 0.5), tokens)[0][0], want)
    assert np.abs(want - oracle.hidden(CONFIG, params, tokens[0])).max() > 0.1


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.06), ("float16", 0.01)])
def test_half_precision(params, dtype, error, request):
    if dtype == "float16":
        request.getfixturevalue("float16")
    config = dataclasses.replace(CONFIG, dtype=dtype)
    tokens = sequences(2, 16)
    hidden, kv = run(config, params, tokens)
    assert hidden.dtype == kv.k.dtype == kv.v.dtype == dtype
    scores = logits(config, params, hidden)
    assert scores.dtype == jnp.float32
    want = np.stack([oracle.logits(CONFIG, params, sequence) for sequence in tokens])
    assert_near(scores, want, error)
    loss = lambda p: jnp.sum(forward(config, p, tokens)[0].astype(jnp.float32) ** 2)
    grads = jax.eval_shape(jax.grad(loss), params)
    assert {x.dtype for x in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


def test_norms_do_not_overflow_in_half_precision(float16):
    x = jnp.array([[300.0, -300.0, 300.0]], float16)  # 300² is beyond it
    y = RMSNorm(1e-5).apply({"params": {"scale": jnp.array([1.0, 2.0, 0.5])}}, x)
    assert y.dtype == float16
    np.testing.assert_allclose(y, [[1.0, -2.0, 0.5]], rtol=1e-3)


def test_initial_parameters():
    config = dataclasses.replace(CONFIG, d_model=64, d_ff=96, n_layers=3, vocab_size=500)
    params = jax.device_get(jax.jit(init_params, static_argnums=0)(config, jax.random.key(0)))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    kernels = [params["embed"]["embedding"], params["unembed"]["kernel"]]
    for group in ("attn", "mlp"):
        for name, leaf in params["layers"][group].items():
            kernels += list(leaf["kernel"])
            if name in "qkv":
                np.testing.assert_array_equal(leaf["bias"], 0.0)
            assert "bias" not in leaf or name in "qkv"
    assert len(kernels) == 2 + 7 * 3
    for kernel in kernels:
        np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.05)
        np.testing.assert_allclose(kernel.mean(), 0.0, atol=0.02 * 5 * kernel.size**-0.5)
    first = {float(kernel.ravel()[0]) for kernel in kernels}
    assert len(first) == len(kernels)  # every layer and matrix has its own numbers
    for norm in ("attn_norm", "mlp_norm"):
        np.testing.assert_array_equal(params["layers"][norm]["scale"], np.ones((3, 64)))
    tied = dataclasses.replace(CONFIG, tie_embeddings=True)
    assert "unembed" not in jax.eval_shape(lambda: init_params(tied, jax.random.key(0)))


def test_the_first_layers_keep_their_kinds():
    """Features of a shallower model, whose windows and frequencies are those of its layers."""
    params, prompt, (action, mask) = random_params(SWITCHED), context(), completions()
    states = completion_states(SWITCHED, params, prompt, action, layers=2)
    layers = jax.tree.map(lambda leaf: leaf[:2], params["layers"])
    shallow = dataclasses.replace(
        SWITCHED, n_layers=2, windows=SWITCHED.windows[:2], ropes=SWITCHED.ropes[:2]
    )
    for b, k, start, rest in joined(prompt, action, mask):
        both = np.concatenate([start, rest])
        want = oracle.hidden(shallow, {**params, "layers": layers}, both)[len(start) :]
        assert_near(states[b, k, : len(rest)], want)


def test_too_long(params):
    fits, long = sequences(1, 24), sequences(1, 25)
    shape = lambda *args, **kw: jax.eval_shape(lambda p: forward(CONFIG, p, *args, **kw), params)
    assert shape(fits)[0].shape == (1, 24, 12)
    with pytest.raises(InputError, match="25 columns exceed the model's context of 24; truncate"):
        shape(long)
    _, prefix = shape(sequences(1, 20))
    prefix = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), prefix)
    assert shape(sequences(3, 4)[None], prefix=prefix)[0].shape == (1, 3, 4, 12)
    with pytest.raises(InputError, match="25 columns exceed"):
        shape(sequences(3, 5)[None], prefix=prefix)


def test_packed_rows_take_no_mask_and_no_prefix(params):
    tokens = sequences(1, 4)
    ones = np.ones((1, 4), np.int32)
    _, prefix = run(CONFIG, params, tokens)
    for argument in ({"mask": ones > 0}, {"prefix": prefix}):
        with pytest.raises(InputError, match="segment: packed rows take neither"):
            forward(CONFIG, params, tokens, segment=ones, **argument)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_kv_heads": 3}, "n_kv_heads: 3 does not divide n_heads 4"),
        ({"head_dim": 7}, "head_dim: RoPE needs an even size, got 7"),
        ({"dtype": "bf16"}, "dtype: expected one of float32, bfloat16, float16, got 'bf16'"),
        ({"qk_norm": "heads"}, "qk_norm: expected one of none, head, width, got 'heads'"),
        ({"rotary_dim": 8}, "rotary_dim: expected an even number up to head_dim 6, got 8"),
        ({"rotary_dim": 3}, "rotary_dim: expected an even number up to head_dim 6, got 3"),
        ({"n_experts": 3}, "experts_per_token: expected 1 to n_experts 3, got 0"),
        ({"n_experts": 3, "experts_per_token": 4}, "1 to n_experts 3, got 4"),
        ({"windows": (3,)}, r"windows: expected one a layer \(2\), got 1"),
        ({"windows": (3, 0)}, "windows: expected at least 1 token, got 0"),
        ({"ropes": ("global", "far")}, "ropes: expected each of global, local, none, got 'far'"),
    ],
)
def test_impossible_shapes(change, message):
    with pytest.raises(InputError, match=message):
        DecoderConfig(**{**vars(CONFIG), **change})
