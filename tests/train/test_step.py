from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.train.state import init_state, joined
from irl_jax.train.step import make_train_step, minibatch_epochs, side_by_side
from irl_jax.types import InputError, Loss
from tests.train.cases import TX, assert_close, demonstrations, new_state, objective


def weighted_square(params, batch, key):
    """Σ w (x·θ - y)² over Σ w."""
    del key
    error = batch["x"] @ params - batch["y"]
    total = jnp.sum(batch["w"] * error**2)
    return Loss(total, jnp.sum(batch["w"]), {"error": (jnp.sum(error), jnp.float32(error.size))})


def regression(rows=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(rows, 3)).astype(np.float32),
        "y": rng.normal(size=rows).astype(np.float32),
        "w": rng.integers(0, 4, rows).astype(np.float32),
    }


def test_update_is_the_gradient_of_the_weighted_mean():
    batch, theta = regression(), np.array([0.3, -0.2, 0.5], np.float32)
    x, y, w = (batch[k].astype(np.float64) for k in "xyw")
    error = x @ theta - y
    gradient = 2 * (w * error) @ x / w.sum()
    tx = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    state = init_state(jnp.asarray(theta), tx, jax.random.key(0))
    state, metrics = jax.jit(make_train_step(weighted_square, tx))(state, batch)
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)  # before clipping
    np.testing.assert_allclose(metrics["loss"], (w * error**2).sum() / w.sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["error"], error.mean(), rtol=1e-4)
    np.testing.assert_allclose(theta - state.params, gradient * 1e-3 / norm, rtol=1e-3)
    assert int(state.step) == 1


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_accumulated_is_the_full_batch_with_unequal_weights(accumulate):
    batch, tx = regression(), optax.sgd(0.1)
    state = init_state(jnp.array([0.3, -0.2, 0.5]), tx, jax.random.key(0))
    full, full_metrics = jax.jit(make_train_step(weighted_square, tx))(state, batch)
    step = jax.jit(make_train_step(weighted_square, tx, accumulate=accumulate))
    parts, metrics = step(state, batch)
    np.testing.assert_allclose(parts.params, full.params, rtol=2e-6)
    for name in full_metrics:
        np.testing.assert_allclose(metrics[name], full_metrics[name], rtol=2e-5)


def test_accumulated_decoder_is_the_full_batch():
    batch, state = demonstrations(8), new_state()
    full, full_metrics = jax.jit(make_train_step(objective, TX))(state, batch)
    parts, metrics = jax.jit(make_train_step(objective, TX, accumulate=4))(state, batch)
    assert_close(parts.params, full.params)
    assert_close(metrics, full_metrics)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nothing_to_learn_from_leaves_the_parameters(accumulate):
    batch = regression() | {"w": np.zeros(12, np.float32)}
    batch["y"][2] = np.inf  # 0 · ∞ is NaN in the sum
    tx = optax.sgd(0.1)
    state = init_state(jnp.array([0.3, -0.2, 0.5]), tx, jax.random.key(0))
    after, metrics = make_train_step(weighted_square, tx, accumulate=accumulate)(state, batch)
    np.testing.assert_array_equal(after.params, state.params)
    assert metrics["loss"] == 0 and metrics["grad_norm"] == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_update_and_micro_batch_has_its_own_key(accumulate):
    drawn = []

    def noisy(params, batch, key):
        jax.debug.callback(
            lambda data: drawn.append(tuple(np.asarray(data))), jax.random.key_data(key)
        )
        return Loss(jnp.sum(params * batch), jnp.float32(1), {})

    tx = optax.sgd(0.1)
    state = init_state(jnp.ones(()), tx, jax.random.key(0))
    step = make_train_step(noisy, tx, accumulate=accumulate)
    for _ in range(3):
        state, _ = step(state, jnp.ones(2))
    jax.effects_barrier()
    assert len(set(drawn)) == 3 * accumulate
    assert (jax.random.key_data(state.key) == jax.random.key_data(jax.random.key(0))).all()


def test_frozen_arrays_reach_the_objective_and_are_not_trained():
    def shifted(params, batch, key, shift):
        del key
        return Loss(jnp.sum((params - batch - shift) ** 2), jnp.float32(batch.size), {})

    tx = optax.sgd(0.5)
    state = init_state(jnp.zeros(()), tx, jax.random.key(0))
    for accumulate in (1, 2):
        step = make_train_step(shifted, tx, accumulate=accumulate)
        after, _ = step(state, jnp.zeros(4), jnp.float32(3.0))
        np.testing.assert_allclose(after.params, 3.0, rtol=1e-6)


def test_the_state_owns_its_parameters():
    params = {"w": jnp.ones(3)}
    state = init_state(params, optax.sgd(0.1), jax.random.key(0))
    step = jax.jit(
        lambda s: s.replace(params=jax.tree.map(lambda x: x + 1, s.params)), donate_argnums=0
    )
    step(state)
    np.testing.assert_array_equal(params["w"], np.ones(3))


def test_bad_splits_and_names_are_refused():
    tx = optax.sgd(0.1)
    state = init_state(jnp.zeros(3), tx, jax.random.key(0))
    with pytest.raises(InputError, match="accumulate: expected at least 1"):
        make_train_step(weighted_square, tx, accumulate=0)
    with pytest.raises(InputError, match=r"batch: w of shape \[12\] does not split into 5"):
        make_train_step(weighted_square, tx, accumulate=5)(state, regression())

    def named(params, batch, key):
        return Loss(jnp.sum(params), jnp.float32(1), {"grad_norm": (jnp.float32(1),) * 2})

    with pytest.raises(InputError, match="grad_norm"):
        make_train_step(named, tx)(state, regression())


def watched(seen):
    """An objective of rows [B, 2], number and value, that notes the rows and keys it was given."""

    def objective(params, batch, key):
        jax.debug.callback(
            lambda rows, data: seen.append((np.asarray(rows), tuple(np.asarray(data)))),
            batch[:, 0],
            jax.random.key_data(key),
        )
        return Loss(jnp.sum(params * batch[:, 1]), jnp.float32(batch.shape[0]), {})

    return objective


def test_several_updates_see_every_row_once_an_epoch():
    """The gradient does not depend on the parameters: the sum of the updates is known."""
    seen, tx = [], optax.sgd(0.1)
    batch = np.stack([np.arange(6), np.arange(6) ** 2], 1).astype(np.float32)
    step = jax.jit(minibatch_epochs(make_train_step(watched(seen), tx), epochs=3, minibatches=2))
    key = jax.random.key(0)
    state, metrics = step(init_state(jnp.ones(()), tx, key), batch)
    after, _ = step(state, batch)
    jax.effects_barrier()
    epochs = [np.concatenate([seen[i][0], seen[i + 1][0]]) for i in range(0, 12, 2)]
    assert all(sorted(rows) == list(range(6)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) > 3
    assert len({key for _, key in seen}) == 12
    np.testing.assert_allclose(state.params, 1 - 0.1 * 6 * batch[:, 1].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], batch[:, 1].mean(), rtol=1e-5)
    assert (int(state.step), int(after.step)) == (1, 2)
    assert (jax.random.key_data(after.key) == jax.random.key_data(key)).all()


def test_one_update_on_the_whole_is_the_plain_step():
    state, batch = new_state(), demonstrations()
    plain = make_train_step(objective, TX)
    one, metrics = jax.jit(minibatch_epochs(plain, epochs=1, minibatches=1))(state, batch)
    same, same_metrics = jax.jit(plain)(state, batch)
    assert_close(one.params, same.params)
    assert_close(metrics, same_metrics)


def test_bad_numbers_of_updates_are_refused():
    step = make_train_step(weighted_square, optax.sgd(0.1))
    with pytest.raises(InputError, match="epochs: expected at least 1, got 0"):
        minibatch_epochs(step, epochs=0, minibatches=1)
    state = init_state(jnp.zeros(3), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(InputError, match=r"into 5 parts; .* minibatches=5 divides"):
        minibatch_epochs(step, epochs=1, minibatches=5)(state, regression())


def test_steps_side_by_side_are_each_alone():
    def noisy(params, batch, key):
        noise = jax.random.normal(key, batch["y"].shape)
        return weighted_square(params, batch | {"y": batch["y"] + noise}, key)

    txs = {"policy": optax.sgd(0.1, momentum=0.9), "critic": optax.sgd(0.01)}
    steps = {name: make_train_step(noisy, tx) for name, tx in txs.items()}
    start = {"policy": jnp.array([0.3, -0.2, 0.5]), "critic": jnp.array([1.0, 2.0, -1.0])}
    key = jax.random.key(3)
    own = {
        name: init_state(start[name], tx, jax.random.fold_in(key, number))
        for number, (name, tx) in enumerate(txs.items())
    }
    state = joined(key, **own)
    both = jax.jit(side_by_side(**steps))
    alone = {name: jax.jit(step) for name, step in steps.items()}
    for seed in range(3):
        batches = {"policy": regression(seed=seed), "critic": regression(seed=10 + seed)}
        state, metrics = both(state, batches)
        found = {}
        for name in own:
            own[name], found[name] = alone[name](own[name], batches[name])
    for name, one in own.items():
        alike = partial(np.testing.assert_allclose, rtol=1e-5)
        jax.tree.map(alike, state.params[name], one.params)
        jax.tree.map(alike, state.opt_state[name], one.opt_state)
    assert int(state.step) == 3
    assert set(metrics) == {*found["policy"], *(f"critic_{key}" for key in found["critic"])}
    np.testing.assert_allclose(metrics["loss"], found["policy"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["critic_loss"], found["critic"]["loss"], rtol=1e-5)
