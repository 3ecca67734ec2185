"""Chunked attention: the oracle's numbers, gradients of the whole, memory that grows linearly."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.attention import attend
from irl_jax.models.chunked_attention import Places, Sight, chunked_attend
from irl_jax.models.decoder import forward
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.types import InputError, Prompt
from tests.models.cases import (
    CONFIG,
    CONFIGS,
    assert_trees_near,
    completions,
    context,
    random_params,
)

B, G, K, R, S, H, P = 2, 2, 3, 2, 13, 4, 7


def places(position, segment):
    return Places(jnp.asarray(position, jnp.int32), jnp.asarray(segment, jnp.int32))


@pytest.fixture(scope="module")
def case():
    """Queries and keys of completions, some of them padded, and of prompts that they share."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    arrays = (
        draw(B, G, K, R, S, H), draw(B, G, H, P), draw(B, G, K, H, S), draw(B, G, P, H),
        draw(B, G, K, S, H),
    )  # fmt: skip
    prompt = np.array([[0, 0, 1, 1, 1, 1, 1], [1] * 7], bool)
    own = np.ones((B, K, S), bool)
    own[0, 1, 9:] = own[1, 2, 1:] = False
    return arrays, prompt, own


def sight_of(prompt, own):
    before = places(np.cumsum(prompt, -1)[:, None] - 1, prompt[:, None])
    queries = places(np.cumsum(own, -1) - 1 + prompt.sum(-1)[:, None, None], own)
    return Sight(queries, [before, queries])


def oracle(arrays, prompt, own, window=None, cap=None, *, divisor):
    """A query at a time, f64[B, G, K, R, S, H]; 0 where there is no query."""
    q, prompt_k, own_k, prompt_v, own_v = (np.asarray(x, np.float64) for x in arrays)
    out = np.zeros(q.shape)
    for b, g, k, r, s in np.ndindex(B, G, K, R, S):
        if not own[b, k, s]:
            continue
        seen = np.concatenate([np.flatnonzero(prompt[b]), P + np.flatnonzero(own[b, k, : s + 1])])
        seen = seen if window is None else seen[-window:]
        keys = np.concatenate([prompt_k[b, g], own_k[b, g, k]], axis=-1).T[seen]
        score = keys @ q[b, g, k, r, s] / divisor
        score = score if cap is None else cap * np.tanh(score / cap)
        weight = np.exp(score - score.max())
        rows = np.concatenate([prompt_v[b, g], own_v[b, g, k]])[seen]
        out[b, g, k, r, s] = weight @ rows / weight.sum()
    return out


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (5, None), (None, 0.7), (1, 2.0)])
def test_it_is_the_oracle(case, chunk, window, cap):
    (q, prompt_k, own_k, prompt_v, own_v), prompt, own = case
    sight = sight_of(prompt, own)
    if window is not None:
        sight = dataclasses.replace(sight, window=jnp.int32(window))
    attended = jax.jit(functools.partial(chunked_attend, chunk=chunk, cap=cap, divisor=1.7))
    out = attended(q, [prompt_k, own_k], [prompt_v, own_v], sight)
    want = oracle(case[0], prompt, own, window, cap, divisor=1.7)
    np.testing.assert_allclose(out, want, atol=2e-6)


@pytest.mark.parametrize("chunk", [3, 16])
@pytest.mark.parametrize("cap", [None, 0.7])
def test_its_gradient_is_that_of_the_whole(case, chunk, cap):
    """Of what queries that exist see; padding may hold anything."""
    arrays, prompt, own = case
    there = jnp.asarray(own)[:, None, :, None, :, None]
    causal = (np.tri(S, dtype=bool) & own[:, :, None])[:, None, :, None]
    masks = [jnp.asarray(prompt)[:, None, None, None, None], jnp.asarray(causal)]

    def whole(q, prompt_k, own_k, prompt_v, own_v):
        out = attend(q, [prompt_k, own_k], [prompt_v, own_v], masks, cap=cap)
        return jnp.where(there, jnp.sin(2 * out), 0.0).sum()

    def parts(q, prompt_k, own_k, prompt_v, own_v):
        keys, values = [prompt_k, own_k], [prompt_v, own_v]
        out = chunked_attend(q, keys, values, sight_of(prompt, own), chunk=chunk, cap=cap)
        return jnp.where(there, jnp.sin(2 * out), 0.0).sum()

    names = tuple(range(5))
    want, got = (jax.jit(jax.grad(f, names))(*arrays) for f in (whole, parts))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    loud = jnp.where(jnp.asarray(own)[:, None, :, None], arrays[2], 1e4)
    again = jax.jit(jax.grad(parts, names))(*arrays[:2], loud, *arrays[3:])
    np.testing.assert_array_equal(again[0], got[0])


def test_what_sees_nothing_is_zero_and_has_no_gradient(case):
    arrays, prompt, own = case
    nothing = sight_of(np.zeros_like(prompt), np.zeros_like(own))

    def total(q, prompt_k, own_k, prompt_v, own_v):
        return chunked_attend(q, [prompt_k, own_k], [prompt_v, own_v], nothing, chunk=4).sum()

    value, slopes = jax.jit(jax.value_and_grad(total, tuple(range(5))))(*arrays)
    assert value == 0.0
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_decoder_is_the_same_in_chunks(config):
    """Padded on either side, packed, and behind a shared prompt; gradients too."""
    params = random_params(config)
    chunked = dataclasses.replace(config, attention_chunk=3)
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, config.vocab_size, (2, 11)).astype(np.int32)
    left = np.arange(11) >= np.array([[0], [4]])
    segment = np.array([[1, 1, 1, 1, 2, 2, 2, 3, 3, 0, 0], [5] * 6 + [7] * 5], np.int32)
    prompt, (action, mask) = context(), completions()

    def behind(shape, params):
        given: Prompt = prompt
        _, prefix = forward(shape, params, given.tokens, mask=given.mask)
        return forward(shape, params, action, mask=mask, prefix=prefix)[0]

    layouts = {
        "left": (lambda c, p: forward(c, p, tokens, mask=left)[0], left),
        "right": (lambda c, p: forward(c, p, tokens, mask=left[:, ::-1])[0], left[:, ::-1]),
        "packed": (lambda c, p: forward(c, p, tokens, segment=segment)[0], segment != 0),
        "prompt": (behind, mask),
    }
    for run, there in layouts.values():

        def total(params, shape, run=run, there=there):
            return jnp.where(there[..., None], jnp.sin(run(shape, params)), 0.0).sum()

        want, got = (jax.value_and_grad(total)(params, shape) for shape in (config, chunked))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-4)
        assert_trees_near(got[1], want[1], 2e-4)


def one_layer(length):
    """Shapes of a layer, and of rows of this length."""
    config = DecoderConfig(
        vocab_size=8, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16,
        max_positions=length, attention_chunk=256,
    )  # fmt: skip
    params = jax.eval_shape(lambda: random_params(config))
    return config, params, jax.ShapeDtypeStruct((1, length), jnp.int32)


def test_memory_grows_with_the_length():
    """Forward and backward, and no array of all pairs exists."""
    sizes = []
    for length in (2048, 4096, 8192):
        config, params, tokens = one_layer(length)
        total = lambda p, x, c=config: forward(c, p, x)[0].sum()
        lowered = jax.jit(jax.grad(total)).lower(params, tokens)
        assert f"{length}x{length}" not in lowered.as_text()
        sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert sizes[1] < 2.2 * sizes[0] and sizes[2] < 2.2 * sizes[1]
    whole = dataclasses.replace(config, attention_chunk=None)
    text = jax.jit(jax.grad(lambda p, x: forward(whole, p, x)[0].sum())).lower(params, tokens)
    assert "8192x8192" in text.as_text()


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(InputError, match="attention_chunk: expected at least 1 token, got 0"):
        dataclasses.replace(CONFIG, attention_chunk=0)
