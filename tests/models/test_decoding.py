"""One token at a time is the whole sequence at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import KV
from irl_jax.models.decoding import (
    Cache,
    decode_columns,
    decode_step,
    init_cache,
    prefill,
    unstack,
)
from irl_jax.models.lora import attach, init_lora, merge
from tests.models.cases import (
    CONFIG,
    CONFIGS,
    assert_near,
    completions,
    context,
    joined,
    random_params,
    run,
)
from tests.oracles import decoder as oracle

LENGTH = 6  # columns of the cache, two more than tokens
step = jax.jit(decode_step, static_argnums=0)


def decode(config, params, prompt, action):
    """Hidden states f[B, K, T, D], and the cache afterwards, which held garbage before."""
    _, kv = run(config, params, prompt.tokens, mask=prompt.mask)
    prefix = [KV(kv.k[i], kv.v[i], kv.mask) for i in range(config.n_layers)]
    layers = unstack(params["layers"], config.n_layers)
    cache = init_cache(config, *action.shape[:2], LENGTH)
    cache = jax.tree.map(lambda x: np.full(x.shape, 50.0, x.dtype), cache)
    hidden = []
    for t in range(action.shape[2]):
        index = jnp.int32(t)
        one, cache = step(config, params, layers, action[..., t], index, prefix, cache)
        hidden.append(one)
    return np.stack([np.asarray(x, np.float32) for x in hidden], axis=2), cache


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_token_by_token_is_the_oracle(config):
    params = random_params(config)
    prompt, (action, mask) = context(), completions()
    hidden, cache = decode(config, params, prompt, action)
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(config, params, np.concatenate([start, rest]))[len(start) :]
        assert_near(hidden[b, k, : len(rest)], want)
    assert isinstance(cache, Cache)
    for value in cache.v:
        np.testing.assert_array_equal(value[..., action.shape[2] :, :], 50.0)  # not yet written
        assert (np.asarray(value)[..., : action.shape[2], :] != 50.0).all()


def test_lora_beside_the_kernels_is_lora_merged(params):
    lora = init_lora(jax.random.key(0), params, 2, "attn|mlp")
    lora = jax.tree.map(lambda x: np.asarray(x) + 0.2, lora)
    prompt, (action, mask) = context(), completions()
    hidden, _ = decode(CONFIG, attach(params, lora, 0.5), prompt, action)
    merged = merge(params, lora, 0.5)
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(CONFIG, merged, np.concatenate([start, rest]))[len(start) :]
        assert_near(hidden[b, k, : len(rest)], want)


def test_the_cache_has_the_compute_dtype(params):
    config = dataclasses.replace(CONFIG, dtype="bfloat16", remat="full")
    prompt, (action, mask) = context(), completions()
    hidden, cache = decode(config, params, prompt, action)
    assert {x.dtype for x in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(CONFIG, params, np.concatenate([start, rest]))[len(start) :]
        assert_near(hidden[b, k, : len(rest)], want, 0.1)


columns = jax.jit(decode_columns, static_argnums=0, static_argnames="siblings")


def test_columns_at_once_each_at_its_own_place(config):
    """Two tokens a call, every continuation with a length of its own, and set back once."""
    params = random_params(config)
    prompt, (action, mask) = context(), completions()
    first, prefix, layers = prefill(config, params, prompt)
    cache = init_cache(config, *action.shape[:2], LENGTH)
    at = lambda index: np.take_along_axis(
        np.asarray(action), np.stack([index, index + 1], -1), axis=-1
    )
    found = np.zeros((*action.shape, config.d_model))
    other = np.zeros(action.shape[:2], np.int32)
    other[0, 1] = other[2, 0] = 1
    for index in (0 * other, other, 1 + other, 2 + 0 * other):  # the second goes back over a column
        hidden, cache = columns(config, params, layers, at(index), index, prefix, cache)
        for b, k in np.ndindex(*index.shape):
            found[b, k, index[b, k] : index[b, k] + 2] = hidden[b, k]
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(config, params, np.concatenate([start, rest]))
        assert_near(first[b], want[len(start) - 1])
        assert_near(found[b, k, : len(rest)], want[len(start) :])


def test_siblings_do_not_see_each_other(config):
    params = random_params(config)
    prompt, (action, _) = context(), completions()
    _, prefix, layers = prefill(config, params, prompt)
    cache = init_cache(config, *action.shape[:2], LENGTH)
    one = jnp.int32(1)
    _, cache = step(config, params, layers, action[..., 0], one - 1, prefix, cache)
    hidden, _ = columns(config, params, layers, action[..., 1:], one, prefix, cache, siblings=True)
    for b, k, i in np.ndindex(*hidden.shape[:3]):
        whole = [*np.asarray(prompt.tokens[b])[np.asarray(prompt.mask[b])]]
        whole += [int(action[b, k, 0]), int(action[b, k, 1 + i])]
        assert_near(hidden[b, k, i], oracle.hidden(config, params, np.array(whole))[-1])
