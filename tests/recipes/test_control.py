"""PPO in small processes whose values and best policies are known exactly."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.envs.control import cartpole
from irl_jax.envs.tabular import as_environment, gridworld
from irl_jax.models.actor_critic import act, init_actor_critic, state_value
from irl_jax.models.mesh import sharded_vmap
from irl_jax.recipes.control import PPOConfig, judged, make_train, mean_return
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError
from tests.oracles import advantages as oracles

DISCOUNT, LIMIT = 0.8, 4
CONFIG = PPOConfig(
    steps=60 * 256, environments=8, unroll=32, learning_rate=0.05, discount=DISCOUNT,
    entropy=0.0, widths=(),
)  # fmt: skip
GRID = gridworld(2, 3, discount=DISCOUNT, terminal=[5])


@jax.jit
def trained(mdp, reward, key):
    """A table of a policy and its values, and how far the policy is from the best, exactly."""
    env = as_environment(mdp, reward, time_limit=LIMIT)
    params, _, metrics = make_train(env, CONFIG)(key)
    table = params["policy"]["layer_0"]
    logp = jax.nn.log_softmax(table["kernel"] + table["bias"])
    return state_value(params, jnp.arange(6)), (occupancy(mdp, logp) * reward).sum(), metrics


def test_the_best_policy_of_a_grid_is_learned():
    reward = jnp.full((6, 4), -0.1).at[5].set(1.0)
    best = float(GRID.start @ infinite_horizon(GRID, reward, temperature=None).value)
    uniform = float((occupancy(GRID, jnp.full((6, 4), -jnp.log(4.0))) * reward).sum())
    _, own, metrics = trained(GRID, reward, jax.random.key(0))
    assert uniform < 0.5 * best
    assert float(own) > 0.97 * best
    assert metrics["return"].shape == metrics["loss"].shape == (60,)
    assert float(metrics["return"][-5:].mean()) > float(metrics["return"][:5].mean())


@pytest.mark.parametrize("ends", [False, True])
def test_values_know_that_an_episode_was_cut_and_not_ended(ends):
    """Every step earns 1. Cut after 4 it would go on, V = 1 / (1 − γ) = 5; ended by it, V = 1."""
    mdp = replace(GRID, discount=jnp.full((6, 4), 0.0 if ends else DISCOUNT))
    value, _, metrics = trained(mdp, jnp.ones((6, 4)), jax.random.key(1))
    np.testing.assert_allclose(value[:5], 1.0 if ends else 5.0, rtol=0.03)
    np.testing.assert_allclose(metrics["length"], 1.0 if ends else LIMIT)
    np.testing.assert_allclose(metrics["return"], 1.0 if ends else LIMIT)
    assert float(metrics["episodes"].sum()) == (8 * 32 * 60 if ends else 8 * (32 * 60 // 5))


def test_what_an_update_is_given_is_the_unroll_row_by_row():
    env = as_environment(GRID, jnp.arange(24.0).reshape(6, 4), time_limit=LIMIT)
    params = init_actor_critic(jax.random.key(0), 6, 4, ())
    act = lambda state, key: (jax.random.randint(key, (), 0, 4), jnp.log(0.25))
    running = begin(env, jax.random.key(1), 3)
    batch = unroll(env, act, running, jax.random.key(2), steps=11, discount=DISCOUNT)[1]
    steps = judged(params, batch, gae_lambda=0.7)
    value = np.asarray(state_value(params, batch.context), float)
    advantage = np.array([
        oracles.stream_gae(
            *(np.asarray(x[b], float) for x in (batch.reward, value)), np.asarray(batch.mask[b]),
            np.asarray(batch.discount[b], float), gae_lambda=0.7,
            final_value=float(state_value(params, batch.final)[b]),
        )
        for b in range(3)
    ])  # fmt: skip
    mask = np.asarray(batch.mask)
    assert (~mask).sum() > 0 and ((np.asarray(batch.discount) == 0) & mask).sum() > 0
    target = (advantage + value)[mask]
    flat = mask.reshape(-1)
    np.testing.assert_allclose(steps.target[flat, 0], target, rtol=1e-4, atol=1e-4)
    whitened = oracles.whiten(advantage, mask)
    np.testing.assert_allclose(steps.advantage[flat, 0], whitened[mask], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(steps.old_value[:, 0], value.reshape(-1), rtol=1e-6)
    for name in ("context", "action", "mask", "logp"):
        flat_rows = getattr(steps.batch, name)
        np.testing.assert_array_equal(flat_rows[:, 0], getattr(batch, name).reshape(33))
        assert flat_rows.shape == (33, 1)


def test_seeds_cut_over_devices_are_the_seeds_on_one():
    """Three seeds, on as many devices; so slow that rounding is not learned from."""
    env = as_environment(GRID, jnp.arange(24.0).reshape(6, 4), time_limit=LIMIT)
    config = replace(CONFIG, steps=3 * 256, learning_rate=1e-5)
    train, keys = make_train(env, config), jax.random.split(jax.random.key(0), 3)
    cut, whole = jax.jit(sharded_vmap(train))(keys), jax.jit(jax.vmap(train))(keys)
    assert cut.metrics["return"].shape == (3, 3)
    assert len(cut.metrics["return"].sharding.device_set) == 3
    assert len(np.unique(cut.metrics["return"])) > 3
    for found, wanted in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_pole_is_balanced():
    env = cartpole()
    params = jax.jit(make_train(env, PPOConfig()))(jax.random.key(0)).params
    assert float(mean_return(env, partial(act, params), jax.random.key(1), 50)) >= 475.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_train(cartpole(), replace(CONFIG, minibatches=3)), "minibatches: 3 do not"),
        (lambda: make_train(cartpole(), replace(CONFIG, steps=100)), "updates"),
        (lambda: mean_return(as_environment(GRID), None, None, 1), "time_limit"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(InputError, match=message):
        call()
