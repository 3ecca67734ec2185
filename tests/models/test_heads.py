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


def test_scalar_head():
    params = {"kernel": jnp.array([1.0, -2.0, 0.5]), "bias": jnp.array(0.25)}
    hidden = jnp.array([[[1, 2, 4], [0, 0, 0]]], jnp.bfloat16)
    values = apply_scalar_head(params, hidden)
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, [[-0.75, 0.25]])


def test_scalar_head_at_initialisation():
    params = init_scalar_head(jax.random.key(0), 4000)
    assert params["kernel"].shape == (4000,)
    assert params["bias"].shape == ()
    assert params["bias"] == 0
    np.testing.assert_allclose(params["kernel"].std(), 4001**-0.5, rtol=0.05)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_last_value():
    values = jnp.arange(15.0).reshape(5, 3)
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    np.testing.assert_array_equal(last_value(values, mask), [2, 3, 7, 0, 14])
    # What lies in the padding is never touched, not even by the gradient.
    dirty = jnp.where(mask, values, jnp.nan)
    np.testing.assert_array_equal(last_value(dirty, mask), [2, 3, 7, 0, 14])
    gradient = jax.grad(lambda v: last_value(v, mask).sum())(dirty)
    want = [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(gradient, want)


def test_last_value_takes_any_leading_axes():
    values = jnp.arange(24.0).reshape(2, 3, 4)
    got = last_value(values, jnp.ones((2, 3, 4), bool))
    np.testing.assert_array_equal(got, values[..., -1])
    with pytest.raises(InputError, match=r"mask: expected shape \[2, 3, 4\], got \[2, 4\]"):
        last_value(values, jnp.ones((2, 4), bool))


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
    params = init_mlp(jax.random.key(0), 5, widths)
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases away from 0
    x = jax.random.normal(jax.random.key(1), (11, 5))
    got = apply_mlp(params, x)
    assert got.shape == (11,)
    np.testing.assert_allclose(got, numpy_mlp(params, x), rtol=1e-4, atol=1e-5)
    check_grads(lambda p: apply_mlp(p, x).sum(), (params,), order=1, modes=["rev"], rtol=1e-2)


def test_several_outputs_are_several_networks_with_shared_layers():
    params = init_mlp(jax.random.key(0), 5, (7,), outputs=3)
    x = jax.random.normal(jax.random.key(1), (2, 11, 5))
    got = apply_outputs(params, x)
    assert got.shape == (2, 11, 3)
    for k in range(3):
        last = jax.tree.map(lambda leaf, k=k: leaf[..., k : k + 1], params["layer_1"])
        alone = apply_mlp({**params, "layer_1": last}, x)
        np.testing.assert_allclose(got[..., k], alone, rtol=1e-5, atol=1e-6)


def test_a_pair_is_judged_the_same_from_either_side():
    params = init_mlp(jax.random.key(0), 6, (8,))
    pair = jax.random.normal(jax.random.key(1), (4, 2, 3))
    reward = apply_against(params, pair)
    assert reward.shape == (4, 2)
    a, b = pair[:, 0], pair[:, 1]
    want = apply_mlp(params, jnp.concatenate([a, b], -1))
    np.testing.assert_allclose(reward[:, 0], want, rtol=1e-5, atol=1e-6)
    assert np.abs(reward[:, 0] - reward[:, 1]).min() > 1e-3
    near = {"rtol": 1e-5, "atol": 1e-6}  # rows of a matmul may be added up in another order
    np.testing.assert_allclose(apply_against(params, pair[:, ::-1]), reward[:, ::-1], **near)
    alike = apply_against(params, jnp.stack([a, a], 1))
    np.testing.assert_allclose(alike[:, 0], alike[:, 1], **near)


def fitted(init, reward, pair):
    """Loss after 300 steps of gradient descent on pairs, chosen first."""
    batch = Preference.without_tokens(jnp.ones(len(pair)))
    slope = jax.jit(jax.value_and_grad(lambda p: bradley_terry(reward(p, pair), batch).mean))
    for _ in range(300):
        loss, gradient = slope(init)
        init = jax.tree.map(lambda x, g: x - 0.3 * g, init, gradient)
    return float(loss), reward(init, pair)


def test_rock_paper_scissors():
    """A cycle: the sum of a scalar's margins is 0, so its loss is log 2 at best."""
    cycle = jnp.eye(3)[jnp.array([[1, 0], [2, 1], [0, 2]])]  # paper, scissors, rock win
    key = jax.random.key(0)
    loss, reward = fitted(init_mlp(key, 6, (16,)), apply_against, cycle)
    assert loss < 0.05
    assert (reward[:, 0] > reward[:, 1]).all()
    loss, reward = fitted(init_mlp(key, 3, (16,)), apply_mlp, cycle)
    assert loss == pytest.approx(np.log(2), abs=1e-4)
    assert float((reward[:, 0] - reward[:, 1]).sum()) == pytest.approx(0, abs=1e-5)


def test_mlp_is_linear_in_its_last_features():
    params = init_mlp(jax.random.key(0), 5, (16, 8))
    params = jax.tree.map(lambda x: x + 0.1, params)
    x = jax.random.normal(jax.random.key(1), (2, 11, 5))
    hidden = mlp_features(params, x)
    assert hidden.shape == (2, 11, 8)
    assert (hidden >= 0).all() and (hidden == 0).any()  # after the ReLU
    last = jax.tree.map(np.float64, params["layer_2"])
    want = np.float64(hidden) @ last["kernel"][:, 0] + last["bias"]
    np.testing.assert_allclose(apply_mlp(params, x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(mlp_features(init_mlp(jax.random.key(0), 5, ()), x), x)


def test_mlp_keeps_the_scale_of_its_input():
    """He initialisation: the output's second moment is that of the input's mean square."""
    params = jax.vmap(lambda key: init_mlp(key, 64, (64, 64)))(
        jax.random.split(jax.random.key(0), 300)
    )
    x = jax.random.normal(jax.random.key(1), (20, 64))
    outputs = jax.vmap(apply_mlp, in_axes=(0, None))(params, x)
    assert outputs.shape == (300, 20)
    np.testing.assert_allclose((outputs**2).mean(), 1.0, rtol=0.15)


def test_members_of_an_ensemble_differ_and_equal_their_own_network():
    keys = jax.random.split(jax.random.key(3), 4)
    stacked = jax.vmap(lambda key: init_mlp(key, 6, (5,)))(keys)
    x = jax.random.normal(jax.random.key(4), (3, 6))
    together = jax.vmap(apply_mlp, in_axes=(0, None))(stacked, x)
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_allclose(apply_mlp(init_mlp(key, 6, (5,)), x), row, rtol=1e-5, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 1e-2


def test_pooled_segments_are_means_over_their_tokens():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, 3, 7, 4))
    segment = rng.integers(0, 4, (2, 3, 7))
    segment[0, 0] = 0
    weight = rng.integers(0, 3, (2, 3, 7)).astype(np.float64)
    dirty = np.where((segment != 0)[..., None], hidden, np.nan)
    for given, w in ((None, np.ones_like(weight)), (weight, weight)):
        got, total = pool_segments(
            jnp.float32(dirty), jnp.asarray(segment), 4, None if given is None else jnp.float32(w)
        )
        assert got.shape == (2, 3, 4, 4)
        for i, j, g in np.ndindex(2, 3, 4):
            inside = segment[i, j] == g + 1
            sum_w = w[i, j][inside].sum()
            assert total[i, j, g] == sum_w
            mean = (w[i, j] @ (hidden[i, j] * inside[:, None])) / sum_w if sum_w else np.zeros(4)
            np.testing.assert_allclose(got[i, j, g], mean, atol=1e-6)


def test_segments_pooled_again_are_the_whole():
    rng = np.random.default_rng(1)
    hidden = jnp.float32(rng.normal(size=(5, 6, 3)))
    mask = np.arange(6) < np.array([6, 4, 1, 0, 5])[:, None]
    segment = jnp.where(mask, np.array([1, 1, 2, 2, 2, 3]), 0)
    parts, tokens = pool_segments(hidden, segment, 3)
    whole, count = pool_segments(parts, jnp.ones((5, 3), int), 1, tokens)
    np.testing.assert_allclose(whole[:, 0], pool(hidden, mask), atol=1e-6)
    np.testing.assert_array_equal(count[:, 0], mask.sum(-1))
