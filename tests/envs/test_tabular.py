"""Grids and random processes: where actions lead."""

import jax
import numpy as np
import pytest

from irl_jax.dynamics.planning import finite_horizon, infinite_horizon
from irl_jax.envs.tabular import MOVES, gridworld, random_mdp
from irl_jax.types import InputError


def test_every_move_of_a_grid():
    """Walls and borders stop; a slip goes anywhere."""
    rows, columns, walls = 3, 4, {5, 6}
    grid = gridworld(rows, columns, discount=0.9, slip=0.2, walls=walls, terminal=[11])
    for state in range(rows * columns):
        i, j = divmod(state, columns)
        for k, (down, right) in enumerate(MOVES):
            to = (i + down, j + right)
            inside = 0 <= to[0] < rows and 0 <= to[1] < columns
            wanted = to[0] * columns + to[1] if inside else state
            wanted = state if wanted in walls else wanted
            assert (np.asarray(grid.successor[state, :, k]) == wanted).all()
    np.testing.assert_allclose(grid.prob[0, 2], [0.05, 0.05, 0.85, 0.05], rtol=1e-6)
    np.testing.assert_allclose(grid.prob.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(grid.discount, np.where(np.arange(12) == 11, 0.0, 0.9)[:, None]
                               * np.ones(4))  # fmt: skip
    begins = np.asarray(grid.start) > 0
    assert begins.sum() == 9 and not begins[[5, 6, 11]].any()


def test_the_hard_policy_walks_the_shortest_way():
    grid = gridworld(3, 4, discount=1.0, start=0, walls={1, 5}, terminal=[3])
    reward = np.full((12, 4), -1.0)
    reward[3] = 0.0
    value = infinite_horizon(grid, reward, temperature=None).value
    assert float(value[0]) == -7.0  # down, down, right, right, up, up, right


def test_random_processes_have_the_successors_that_they_are_asked_for():
    mdp = random_mdp(jax.random.key(0), 6, 3, discount=0.5, successors=2)
    assert mdp.successor.shape == mdp.prob.shape == (6, 3, 2)
    dense = random_mdp(jax.random.key(0), 6, 3, discount=0.5)
    assert dense.successor is None and dense.prob.shape == (6, 3, 6)
    for each in (mdp, dense):
        np.testing.assert_allclose(each.prob.sum(-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(each.start.sum(), 1.0, rtol=1e-5)
    other = random_mdp(jax.random.key(1), 6, 3, discount=0.5, successors=2)
    assert (np.asarray(other.successor) != np.asarray(mdp.successor)).any()


def test_a_process_is_planned_for_in_float32_and_under_vmap():
    keys = jax.random.split(jax.random.key(0), 4)
    mdps = jax.vmap(lambda key: random_mdp(key, 5, 2, discount=0.9, successors=2))(keys)
    rewards = jax.random.normal(jax.random.key(1), (4, 5, 2))
    plan = jax.vmap(lambda m, r: finite_horizon(m, r, horizon=7))(mdps, rewards)
    assert plan.value.shape == (4, 7, 5) and plan.value.dtype == np.float32
    one = finite_horizon(jax.tree.map(lambda x: x[2], mdps), rewards[2], horizon=7)
    np.testing.assert_allclose(plan.value[2], one.value, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 9}, "start: cell 9 is not one of the 6"),
        ({"walls": [-1]}, "walls: cell -1"),
        ({"terminal": [6]}, "terminal: cell 6"),
        ({"start": 1, "walls": [1]}, "begins in a wall"),
        ({"walls": range(6)}, "begins in a wall"),
        ({"slip": 1.5}, "slip"),
        ({"discount": 2.0}, "discount"),
    ],
)
def test_bad_grids(options, message):
    with pytest.raises(InputError, match=message):
        gridworld(2, 3, **{"discount": 0.9, **options})
