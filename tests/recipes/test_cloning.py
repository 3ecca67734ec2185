"""Behaviour cloning and DAgger, where it is known what the expert does."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.control import cartpole
from irl_jax.envs.tabular import as_environment, gridworld, random_mdp
from irl_jax.models.actor_critic import action_logp, greedy
from irl_jax.recipes.cloning import CloningConfig, DAggerConfig, clone, make_dagger
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError, Trajectory

BEST = np.random.default_rng(1).integers(0, 4, 12)  # what the expert does, whatever it is good for
ENV = as_environment(random_mdp(jax.random.key(0), 12, 4, discount=0.9), time_limit=5)


def expert(state, key):
    return jnp.asarray(BEST, jnp.int32)[state], jnp.zeros(())


def shown(episodes=1):
    """Its first episodes; few states are on their way."""
    running = begin(ENV, jax.random.key(0), episodes)
    return unroll(ENV, expert, running, jax.random.key(1), steps=5, discount=0.9)[1]


def asked(params):
    return np.asarray(greedy(params, jnp.arange(12), None)[0])


def test_dagger_comes_to_know_the_expert_where_cloning_has_seen_too_little():
    """Tables: a state that was never shown or asked about says nothing of what is done there."""
    batch = shown()
    known = np.unique(np.asarray(batch.context)[np.asarray(batch.mask)])
    assert 2 <= len(known) <= 5
    config = DAggerConfig(
        rounds=10, environments=4, unroll=10, updates=60, learning_rate=0.1, widths=()
    )
    trained = jax.jit(make_dagger(ENV, batch, config, expert))(jax.random.key(2))
    np.testing.assert_array_equal(asked(trained.params), BEST)
    assert trained.metrics["loss"].shape == trained.metrics["return"].shape == (10,)
    cloning = CloningConfig(snapshots=6, between=60, learning_rate=0.1, widths=())
    often = jax.tree.map(lambda x: jnp.concatenate([x] * 8), batch)  # no step is left out of all
    params = jax.jit(lambda key: clone(cloning, ENV, often, key))(jax.random.key(2))
    right = asked(params) == BEST
    assert right[known].all() and right.mean() < 0.7


def test_dagger_asks_in_the_states_that_the_policy_comes_to():
    """It is told nothing of states that neither the demonstrations nor its policy came to."""
    grid = gridworld(3, 4, discount=0.9, start=8)
    env = as_environment(grid, time_limit=3)
    config = DAggerConfig(
        rounds=4, environments=2, unroll=6, updates=40, learning_rate=0.1, widths=()
    )
    told, other = jnp.array([[8, 3, 8, 3, 3]]), int(BEST[3] + 1) % 4  # cell 3 is far, and shown
    absent = replace(shown(), context=told, action=jnp.where(told == 8, BEST[8], other))
    # what is said of the far column, where an episode does not act, does not count
    far = jnp.arange(12) % 4 == 3
    odd = lambda state, key: (jnp.where(far, 3 - BEST, BEST)[state].astype(jnp.int32), 0.0)
    same = [
        jax.jit(make_dagger(env, absent, config, expert))(jax.random.key(3)).params
        for expert in (expert, odd)
    ]
    assert asked(same[0])[8] == BEST[8] and asked(same[0])[3] == other
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_clone_does_what_was_shown_and_does_not_learn_chance_by_heart():
    """Actions that follow from observations are learned; of a few by chance nothing is."""
    env = cartpole()
    rng = np.random.default_rng(0)
    context = jnp.asarray(rng.normal(size=(8, 40, 4)), jnp.float32)
    mask = jnp.asarray(rng.uniform(size=(8, 40)) < 0.8)
    told = (context[..., 0] > context[..., 1]).astype(int)
    chance = jnp.asarray(rng.integers(0, 2, (8, 40)))
    config = CloningConfig(snapshots=5, between=60, learning_rate=0.02, widths=(8,))
    none: list = [None] * 3

    @jax.jit
    def fit(action, mask):
        # where nothing was kept the opposite was done
        action = jnp.where(mask, action, 1 - told)
        return clone(config, env, Trajectory(context, action, mask, *none), jax.random.key(1))

    done = np.asarray(greedy(fit(told, mask), context, None)[0])
    assert (done == told)[np.asarray(mask)].mean() > 0.93
    few = mask & (jnp.arange(8) < 1)[:, None]
    spoilt = -np.asarray(action_logp(fit(chance, few), context, chance))[~np.asarray(few)].mean()
    assert spoilt < 2.0  # nats; 1.1 here, 4.1 after the last update


@pytest.mark.parametrize("name", ["rounds", "updates", "batch_size"])
def test_bad_settings(name):
    with pytest.raises(InputError, match=f"^{name}"):
        make_dagger(ENV, shown(), replace(DAggerConfig(), **{name: 0}), expert)
