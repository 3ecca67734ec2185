"""Rewards of grids, recovered as far as demonstrations tell them."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gridworld_irl.config import CONFIG
from experiments.gridworld_irl.study import main
from experiments.gridworld_irl.worlds import (
    CELLS,
    COUNTED,
    MOVED,
    arms,
    demonstrate,
    make_world,
    measure,
    of_moves,
)
from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.losses.inverse import causal_likelihood
from irl_jax.types import InputError, Trajectory
from tests.oracles.planning import dense

TINY = replace(CONFIG, worlds=2, rows=2, columns=3, walls=1, demonstrations=(4, 30))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def compiled():
    """Each arm of `TINY`, and what measures it."""
    return {name: jax.jit(arm) for name, arm in arms(TINY).items()}, jax.jit(partial(measure, TINY))


def test_worlds_differ_in_their_rewards_and_walls_alone():
    one, same, other = (make_world(TINY, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(one.reward, same.reward)
    assert (one.reward != other.reward).all()
    np.testing.assert_array_equal(dense(one.mdp), dense(other.mdp))
    np.testing.assert_allclose(dense(one.turned)[:, 1:], dense(one.mdp)[:, :-1])
    np.testing.assert_allclose(dense(one.turned)[:, 0], dense(one.mdp)[:, -1])
    entered = dense(one.walled).sum((0, 1)) - dense(one.walled)[range(6), :, range(6)].sum(-1)
    assert (entered == 0).sum() == 1


def test_demonstrations_are_of_the_soft_policy():
    """Counts of 20,000 by chance, the first of them being those of fewer."""
    config = replace(TINY, steps=3, demonstrations=(100, 20000))
    world = make_world(config, 0)
    few, many = demonstrate(config, world, 0)
    assert (few.sum(), many.sum()) == (300, 60000)
    assert (few <= many).all()
    plan = infinite_horizon(world.mdp, of_moves(world.reward))
    lasting = world.mdp.replace(discount=jnp.ones((6, 4)))
    visits = occupancy(lasting, jnp.broadcast_to(plan.logp, (3, 6, 4))).sum(0)
    deviation = np.sqrt(visits / 20000) * 3  # at the most, if all three visits are one
    assert (np.abs(many / 20000 - visits) < 4 * deviation / np.sqrt(3)).all()


def test_the_inferred_rewards_are_the_most_probable(compiled):
    """By the gradient of `causal_likelihood` on a demonstration of each move that was counted."""
    world = make_world(TINY, 0)
    counts = demonstrate(TINY, world, 0)[1]
    cell, move = np.repeat(np.argwhere(counts), counts[counts > 0].astype(int), axis=0).T
    batch = Trajectory(cell[:, None], move[:, None], jnp.ones((len(cell), 1), bool), *3 * (None,))

    @jax.jit
    @jax.grad
    def slope(reward):
        logp = infinite_horizon(world.mdp, reward, tolerance=1e-10).logp
        return -causal_likelihood(logp[batch.context, batch.action], batch, discount=1.0).total

    for name in (CELLS, MOVED):
        found = compiled[0][name](world.mdp, counts)
        likely, prior = slope(found), found / TINY.deviation**2
        if name == CELLS:
            np.testing.assert_array_equal(found, found[:, :1].repeat(4, 1))
            likely, prior = likely.sum(-1), prior[:, 0]
        np.testing.assert_allclose(likely, prior, atol=1e-5)
    share = (counts + 0.5) / (counts + 0.5).sum(-1, keepdims=True)
    np.testing.assert_allclose(jnp.exp(compiled[0][COUNTED](world.mdp, counts)), share, rtol=1e-12)


def test_what_is_identified_comes_out_and_no_more(compiled):
    """Of counts without noise, and of the reward itself."""
    inferred, measured = compiled
    world = make_world(TINY, 0)
    plan = infinite_horizon(world.mdp, of_moves(world.reward), tolerance=1e-10)
    found = {
        name: measured(world, arm(world.mdp, 1e6 * np.exp(plan.logp)))
        for name, arm in inferred.items()
    }
    for each in found.values():
        assert max(float(each["identified"]), float(each["starc"])) < 1e-2
        assert float(each["here"]) < 1e-6
    assert float(found[CELLS]["epic"]) < 1e-2
    for name in (MOVED, COUNTED):
        assert float(found[name]["epic"]) > 0.1
        assert float(found[name]["whole"]) > 0.3
    exact = measured(world, of_moves(world.reward))
    np.testing.assert_allclose(list(exact.values()), 0.0, atol=1e-7)


def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    with np.load(config.run_dir / "measures.npz") as kept:
        found = {name: kept[name] for name in kept}
    rewards = found.pop("rewards")
    assert rewards.shape == (3, 2, 6, 4) and np.isfinite(rewards).all()
    for name, values in found.items():
        assert values.shape == (3, 2, 2)
        assert list(summary["measured"][name]) == [CELLS, MOVED, COUNTED]
        for arm, each in zip(summary["measured"][name].values(), values, strict=True):
            np.testing.assert_allclose([mean for mean, _, _ in arm], each.mean(0), rtol=1e-6)
        apart = (values[1] - values[0]).mean(0)
        behind = [mean for mean, _, _ in summary["behind"][name][MOVED]]
        np.testing.assert_allclose(behind, apart, rtol=1e-5, atol=1e-9)
        assert len(summary["p"][name]) == 4
    np.testing.assert_allclose(found["here"][0], found["turned"][0], atol=1e-9)
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 3
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worlds": 1}, "worlds"),
        ({"demonstrations": ()}, "demonstrations: expected one or more"),
        ({"walls": 6}, "walls: expected fewer than the 6 cells"),
        ({"deviation": 0.0}, "deviation"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
