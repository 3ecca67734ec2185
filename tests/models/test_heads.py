import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from irl_jax.losses.preference import bradley_terry
from irl_jax.models.heads import (
    apply_against,
    apply_mlp,
    apply_outputs,
    apply_scalar_head,
    init_mlp,
    init_scalar_head,
    last_value,
    mlp_features,
    pool,
    pool_segments,
)
from irl_jax.types import InputError, Preference

init = jax.jit(init_mlp, static_argnums=(1, 2), static_argnames="outputs")
apply = jax.jit(apply_mlp)
value = jax.jit(last_value)


def normal(*shape, seed=1):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def test_scalar_head():
    params = {"kernel": np.float32([1.0, -2.0, 0.5]), "bias": np.float32(0.25)}
    hidden = np.array([[[1, 2, 4], [0, 0, 0]]], jnp.bfloat16)
    values = jax.jit(apply_scalar_head)(params, hidden)
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, [[-0.75, 0.25]])


def test_scalar_head_at_initialisation():
    params = jax.device_get(jax.jit(init_scalar_head, static_argnums=1)(jax.random.key(0), 4000))
    assert params["kernel"].shape == (4000,)
    assert params["bias"].shape == ()
    assert params["bias"] == 0
    np.testing.assert_allclose(params["kernel"].std(), 4001**-0.5, rtol=0.05)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_last_value():
    values = np.arange(15.0, dtype=np.float32).reshape(5, 3)
    mask = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    np.testing.assert_array_equal(value(values, mask), [2, 3, 7, 0, 14])
    # What lies in the padding is never touched, not even by the gradient. Not jitted: XLA
    # makes a selection, which hides NaN, of a product with a mask.
    dirty = np.where(mask, values, np.float32(np.nan))
    np.testing.assert_array_equal(last_value(dirty, mask), [2, 3, 7, 0, 14])
    gradient = jax.grad(lambda v: last_value(v, mask).sum())(dirty)
    want = [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(gradient, want)


def test_last_value_takes_any_leading_axes():
    values = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    got = value(values, np.ones((2, 3, 4), bool))
    np.testing.assert_array_equal(got, values[..., -1])
    with pytest.raises(InputError, match=r"mask: expected shape \[2, 3, 4\], got \[2, 4\]"):
        last_value(values, np.ones((2, 4), bool))


def numpy_mlp(params, x):
    x = np.asarray(x, np.float64)
    for i in range(len(params)):
        layer = params[f"layer_{i}"]
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        if i + 1 < len(params):
            x = np.maximum(x, 0.0)
    return x[:, 0]


@pytest.mark.parametrize("widths", [(), (7,), (16, 8)])
def test_mlp(widths):
    params = jax.device_get(init(jax.random.key(0), 5, widths))
    params = jax.tree.map(lambda x: x + np.float32(0.1), params)  # biases away from 0
    x = normal(11, 5)
    got = apply(params, x)
    assert got.shape == (11,)
    np.testing.assert_allclose(got, numpy_mlp(params, x), rtol=1e-4, atol=1e-5)
    total = jax.jit(lambda p: apply_mlp(p, x).sum())
    check_grads(total, (params,), order=1, modes=["rev"], rtol=1e-2)


def test_several_outputs_are_several_networks_with_shared_layers():
    params = jax.device_get(init(jax.random.key(0), 5, (7,), outputs=3))
    x = normal(2, 11, 5)
    got = np.asarray(jax.jit(apply_outputs)(params, x))
    assert got.shape == (2, 11, 3)
    for k in range(3):
        last = jax.tree.map(lambda leaf, k=k: leaf[..., k : k + 1], params["layer_1"])
        alone = apply({**params, "layer_1": last}, x)
        np.testing.assert_allclose(got[..., k], alone, rtol=1e-5, atol=1e-6)


def test_a_pair_is_judged_the_same_from_either_side():
    params, judge = init(jax.random.key(0), 6, (8,)), jax.jit(apply_against)
    pair = normal(4, 2, 3)
    reward = np.asarray(judge(params, pair))
    assert reward.shape == (4, 2)
    a, b = pair[:, 0], pair[:, 1]
    want = apply(params, np.concatenate([a, b], -1))
    np.testing.assert_allclose(reward[:, 0], want, rtol=1e-5, atol=1e-6)
    assert np.abs(reward[:, 0] - reward[:, 1]).min() > 1e-3
    near = {"rtol": 1e-5, "atol": 1e-6}  # rows of a matmul may be added up in another order
    np.testing.assert_allclose(judge(params, pair[:, ::-1]), reward[:, ::-1], **near)
    alike = np.asarray(judge(params, np.stack([a, a], 1)))
    np.testing.assert_allclose(alike[:, 0], alike[:, 1], **near)


def fitted(params, reward, pair):
    """Loss after 300 steps of gradient descent on pairs, chosen first."""
    batch = Preference.without_tokens(np.ones(len(pair), np.float32))
    slope = jax.value_and_grad(lambda p: bradley_terry(reward(p, pair), batch).mean)

    def step(params, _):
        loss, gradient = slope(params)
        return jax.tree.map(lambda x, g: x - 0.3 * g, params, gradient), loss

    @jax.jit
    def fit(params):
        params, losses = jax.lax.scan(step, params, length=300)
        return losses[-1], reward(params, pair)

    return jax.device_get(fit(params))


def test_rock_paper_scissors():
    """A cycle: the sum of a scalar's margins is 0, so its loss is log 2 at best."""
    cycle = np.eye(3, dtype=np.float32)[[[1, 0], [2, 1], [0, 2]]]  # paper, scissors, rock win
    key = jax.random.key(0)
    loss, reward = fitted(init(key, 6, (16,)), apply_against, cycle)
    assert loss < 0.05
    assert (reward[:, 0] > reward[:, 1]).all()
    loss, reward = fitted(init(key, 3, (16,)), apply_mlp, cycle)
    assert loss == pytest.approx(np.log(2), abs=1e-4)
    assert float((reward[:, 0] - reward[:, 1]).sum()) == pytest.approx(0, abs=1e-5)


def test_mlp_is_linear_in_its_last_features():
    params = jax.device_get(init(jax.random.key(0), 5, (16, 8)))
    params = jax.tree.map(lambda x: x + np.float32(0.1), params)
    x = normal(2, 11, 5)
    hidden = np.asarray(jax.jit(mlp_features)(params, x))
    assert hidden.shape == (2, 11, 8)
    assert (hidden >= 0).all() and (hidden == 0).any()  # after the ReLU
    last = jax.tree.map(np.float64, params["layer_2"])
    want = np.float64(hidden) @ last["kernel"][:, 0] + last["bias"]
    np.testing.assert_allclose(apply(params, x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(mlp_features(init(jax.random.key(0), 5, ()), x), x)


def test_mlp_keeps_the_scale_of_its_input():
    """He initialisation: the output's second moment is that of the input's mean square."""
    x = normal(20, 64)
    one = lambda key: apply_mlp(init_mlp(key, 64, (64, 64)), x)
    outputs = np.asarray(
        jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, 300)))(jax.random.key(0))
    )
    assert outputs.shape == (300, 20)
    np.testing.assert_allclose((outputs**2).mean(), 1.0, rtol=0.15)


def test_members_of_an_ensemble_differ_and_equal_their_own_network():
    keys = jax.random.split(jax.random.key(3), 4)
    x = normal(3, 6)
    one = lambda key: apply_mlp(init_mlp(key, 6, (5,)), x)
    together = np.asarray(jax.jit(jax.vmap(one))(keys))
    alone = jax.jit(lambda keys: [one(key) for key in keys])(keys)
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 1e-2


def test_pooled_segments_are_means_over_their_tokens():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, 3, 7, 4))
    segment = rng.integers(0, 4, (2, 3, 7))
    segment[0, 0] = 0
    weight = rng.integers(0, 3, (2, 3, 7)).astype(np.float64)
    dirty = np.where((segment != 0)[..., None], hidden, np.nan)
    pooled = jax.jit(pool_segments, static_argnums=2)
    for given, w in ((None, np.ones_like(weight)), (np.float32(weight), weight)):
        got, total = map(np.asarray, pooled(np.float32(dirty), segment, 4, given))
        assert got.shape == (2, 3, 4, 4)
        for i, j, g in np.ndindex(2, 3, 4):
            inside = segment[i, j] == g + 1
            sum_w = w[i, j][inside].sum()
            assert total[i, j, g] == sum_w
            mean = (w[i, j] @ (hidden[i, j] * inside[:, None])) / sum_w if sum_w else np.zeros(4)
            np.testing.assert_allclose(got[i, j, g], mean, atol=1e-6)


def test_segments_pooled_again_are_the_whole():
    hidden = normal(5, 6, 3)
    mask = np.arange(6) < np.array([6, 4, 1, 0, 5])[:, None]
    segment = np.where(mask, np.array([1, 1, 2, 2, 2, 3]), 0)

    @jax.jit
    def both(hidden):
        parts, tokens = pool_segments(hidden, segment, 3)
        whole, count = pool_segments(parts, jnp.ones((5, 3), int), 1, tokens)
        return whole[:, 0], pool(hidden, mask), count[:, 0]

    whole, want, count = both(hidden)
    np.testing.assert_allclose(whole, want, atol=1e-6)
    np.testing.assert_array_equal(count, mask.sum(-1))
