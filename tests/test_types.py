import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_jax.types import Group, InputError, Loss, Prompt, Turns, safe_divide


def group(b=2, k=3, t=4, seed=0):
    rng = np.random.default_rng(seed)
    length = rng.integers(0, t + 1, [b, k])
    length[0, 0], length[-1, -1] = t, 0
    return Group(
        context=Prompt(
            tokens=jnp.arange(b * 5).reshape(b, 5), mask=jnp.asarray(rng.random([b, 5]) < 0.5)
        ),
        action=jnp.arange(b * k * t).reshape(b, k, t),
        mask=jnp.arange(t) < length[..., None],
        logp=jnp.asarray(rng.standard_normal([b, k, t]), jnp.float32),
        reward=jnp.asarray(rng.standard_normal([b, k]), jnp.float32),
        terminated=jnp.asarray(rng.random([b, k]) < 0.5),
    )


def test_flatten_equals_a_loop_over_completions():
    batch = group()
    flat = batch.flatten()
    for b, k in np.ndindex(2, 3):
        row = 3 * b + k
        np.testing.assert_array_equal(flat.context.tokens[row], batch.context.tokens[b])
        np.testing.assert_array_equal(flat.context.mask[row], batch.context.mask[b])
        for name in ("action", "mask", "logp", "terminated"):
            np.testing.assert_array_equal(getattr(flat, name)[row], getattr(batch, name)[b, k])
        n = int(batch.mask[b, k].sum())
        reward = np.zeros(4, np.float32)
        if n > 0:
            reward[n - 1] = batch.reward[b, k]
        np.testing.assert_array_equal(flat.reward[row], reward)


def test_flatten_keeps_rewards_exact_and_counts_them_once():
    batch = group(3, 2, 5).replace(mask=jnp.ones([3, 2, 5], bool))
    flat = batch.flatten()
    assert flat.reward.dtype == jnp.float32
    np.testing.assert_array_equal(flat.reward.sum(-1), batch.reward.reshape(-1))
    np.testing.assert_array_equal(flat.reward[:, -1], batch.reward.reshape(-1))


def test_flatten_of_a_reward_that_is_nan_on_an_empty_completion():
    batch = group()
    reward = batch.reward.at[-1, -1].set(jnp.nan)
    assert np.isfinite(batch.replace(reward=reward).flatten().reward).all()


def test_flatten_puts_a_reward_on_the_last_token_wherever_the_mask_begins():
    """A mask with holes: masked stale tokens, a user's turn between two of the assistant's."""
    mask = [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    mask = jnp.array(mask, bool).reshape(2, 3, 4)
    reward = jnp.arange(1.0, 7.0).reshape(2, 3)
    flat = jax.jit(Group.flatten)(group().replace(mask=mask, reward=reward))
    expected = np.zeros((6, 4))
    for row in range(5):
        expected[row, np.flatnonzero(mask.reshape(6, 4)[row])[-1]] = row + 1
    np.testing.assert_array_equal(flat.reward, expected)
    assert not np.any(flat.reward[~flat.mask])


def test_flatten_puts_the_reward_of_each_turn_on_its_last_token():
    """A turn that was not taken has no token, and its reward falls nowhere."""
    number = [[1, 1, 0, 2, 2], [1, 0, 0, 2, 0], [0, 0, 0, 0, 0], [1, 2, 3, 0, 0], [1, 1, 1, 1, 1],
              [0, 1, 0, 0, 3]]  # fmt: skip
    number = jnp.array(number).reshape(2, 3, 5)
    reward = jnp.arange(1.0, 19.0).reshape(2, 3, 3)
    batch = group(t=5).replace(mask=number > 0, turns=Turns(number, reward))
    flat = jax.jit(Group.flatten)(batch.replace(reward=jnp.full([2, 3], jnp.nan)))
    expected = [[0, 1, 0, 0, 2], [4, 0, 0, 5, 0], [0] * 5, [10, 11, 12, 0, 0], [0, 0, 0, 0, 13],
                [0, 16, 0, 0, 18]]  # fmt: skip
    np.testing.assert_array_equal(flat.reward, expected)
    taken = [[1, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0], [1, 0, 1]]
    np.testing.assert_array_equal(batch.turns.mask.reshape(6, 3), np.array(taken) > 0)


def test_flatten_under_jit_and_with_other_contexts():
    batch = group()
    for context in (None, jnp.ones([2, 4, 7]), {"x": jnp.ones([2])}):
        flat = jax.jit(Group.flatten)(batch.replace(context=context))
        assert all(x.shape[0] == 6 for x in jax.tree.leaves(flat))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    weight=st.lists(st.integers(0, 64), min_size=1, max_size=8),  # eighths
    cut=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_mean_of_added_parts_is_the_mean_of_the_whole(weight, cut, seed):
    weight = np.float32(weight) / 8
    x = np.random.default_rng(seed).standard_normal(len(weight)).astype(np.float32)

    def loss(part):
        total, count = (weight[part] * x[part]).sum(), weight[part].sum()
        return Loss(total, count, {"x": (total, count)})

    added = jax.tree.map(np.add, loss(slice(None, cut)), loss(slice(cut, None)))
    expected = np.average(x, weights=weight) if weight.sum() > 0 else 0.0
    np.testing.assert_allclose(added.mean, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(safe_divide(*added.metrics["x"]), added.mean, rtol=1e-6)


def test_mean_of_nothing_is_zero_with_a_zero_gradient():
    mean = lambda total: Loss(total, jnp.float32(0), {}).mean
    assert mean(jnp.float32(0)) == 0
    assert mean(jnp.float32(jnp.nan)) == 0
    assert jax.grad(mean)(jnp.float32(3)) == 0


def test_safe_divide_is_elementwise():
    total, weight = jnp.array([6.0, 6.0, -1.0]), jnp.array([3.0, 0.0, 0.5])
    assert safe_divide(total, weight).tolist() == [2.0, 0.0, -2.0]
    gradient = jax.grad(lambda x, y: safe_divide(x, y).sum(), argnums=(0, 1))(total, weight)
    np.testing.assert_allclose(gradient, [[1 / 3, 0, 2], [-6 / 9, 0, 4]], rtol=1e-6)


def test_losses_pass_through_transformations():
    loss = jax.jit(jax.vmap(lambda x: Loss(2 * x, jnp.ones_like(x), {"x": (x, x)})))(jnp.ones(3))
    assert loss.mean.tolist() == [2.0, 2.0, 2.0]


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="field: fix"):
        raise InputError("field: fix")
