"""Apprenticeship against all deterministic policies of a small process, in float64."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from irl_jax.dynamics.apprenticeship import best_response, multiplicative_weights, projection
from irl_jax.envs.tabular import random_mdp
from irl_jax.types import InputError
from tests.oracles.planning import dense

S, A, K, GAMMA = 4, 2, 3, 0.8


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def game():
    """best response, feature expectations f64[A^S, K] of all deterministic policies, features."""
    mdp = random_mdp(jax.random.key(1), S, A, discount=GAMMA)
    feature = np.random.default_rng(0).uniform(size=(S, A, K))
    transition, corners = dense(mdp), []
    for policy in product(range(A), repeat=S):
        moves = transition[np.arange(S), list(policy)]
        visits = np.linalg.solve(np.eye(S) - GAMMA * moves.T, np.asarray(mdp.start))
        corners.append(visits @ feature[np.arange(S), list(policy)])
    return best_response(mdp, jnp.asarray(feature)), np.array(corners)


def mean(apprentice) -> np.ndarray:
    return np.asarray(apprentice.share @ apprentice.expectation)


def distance(corners: np.ndarray, target: np.ndarray) -> float:
    """Of a point to the hull of the corners: non-negative least squares, Σ share = 1 weighted."""
    far = 1e4
    rows = np.vstack([corners.T, far * np.ones(len(corners))])
    share, _ = scipy.optimize.nnls(rows, np.append(target, far))
    return float(np.linalg.norm(share @ corners - target))


def value(corners: np.ndarray, target: np.ndarray) -> float:
    """max over mixtures of min over features of μ − μ_E, by linear programming."""
    n = len(corners)
    found = scipy.optimize.linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.hstack([-(corners - target).T, np.ones((K, 1))]),
        b_ub=np.zeros(K),
        A_eq=[np.append(np.ones(n), 0.0)],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
    )
    return -found.fun


def test_the_best_response_is_the_best_corner(game):
    respond, corners = game
    for weight in np.random.default_rng(1).normal(size=(5, K)):
        best = corners[(corners @ weight).argmax()]
        np.testing.assert_allclose(jax.jit(respond)(weight), best, rtol=1e-9)


def test_projection_comes_as_near_as_any_mixture(game):
    respond, corners = game
    inside = np.random.default_rng(2).dirichlet(np.ones(len(corners))) @ corners
    outside = corners[3] + 0.5 * (corners[3] - corners.mean(0))
    run = jax.jit(lambda target: projection(respond, target, steps=200))
    for target, nearest in ((inside, 0.0), (outside, distance(corners, outside))):
        found = run(jnp.asarray(target))
        assert float(found.share.sum()) == pytest.approx(1.0, abs=1e-12)
        assert (np.asarray(found.share) >= 0).all()
        apart = np.linalg.norm(mean(found) - target)
        assert nearest - 1e-6 < apart < nearest + 0.02
        np.testing.assert_array_equal(found.weight[0], target)
    assert distance(corners, outside) > 0.1


def test_multiplicative_weights_reach_the_value_of_the_game(game):
    """And so do better than an expert that is not the best."""
    respond, corners = game
    target, steps = corners.mean(0), 2000
    scale = float(np.abs(corners - target).max())
    found = jax.jit(
        lambda target: multiplicative_weights(respond, target, steps=steps, scale=scale)
    )(jnp.asarray(target))
    best = value(corners, target)
    ratio = np.log(K) / steps
    short = 2 * scale * (np.sqrt(2 * ratio) + ratio)
    reached = (mean(found) - target).min()
    assert best - short <= reached <= best + 1e-9
    assert best > 0.1 and reached > 0.8 * best
    np.testing.assert_allclose(found.weight.sum(-1), 1.0, rtol=1e-12)


def test_one_step_of_multiplicative_weights_by_hand():
    target = jnp.array([1.0, 2.0])
    respond = lambda weight: jnp.array([2.0, 1.0])
    found = multiplicative_weights(respond, target, steps=2, scale=4.0)
    beta = 1 / (1 + np.sqrt(2 * np.log(2) / 2))
    powers = beta ** np.array([0.625, 0.375])
    np.testing.assert_allclose(found.weight, [[0.5, 0.5], powers / powers.sum()], rtol=1e-12)


def test_bad_numbers_are_named(game):
    respond, corners = game
    target = jnp.asarray(corners[0])
    with pytest.raises(InputError, match="steps"):
        projection(respond, target, steps=0)
    with pytest.raises(InputError, match="scale"):
        multiplicative_weights(respond, target, steps=1, scale=0.0)
    with pytest.raises(InputError, match="target"):
        projection(respond, target[None], steps=1)


def test_projection_stays_between_its_policies():
    """Where the expert is out of reach the nearest point of the line is beyond its end."""
    respond = lambda weight: jnp.where(weight[1] > 0.5, jnp.array([1.0, 0]), jnp.array([0, -1.0]))
    found = projection(respond, jnp.array([3.0, 0.4]), steps=1)
    np.testing.assert_array_equal(found.weight, [[3.0, 0.4], [3.0, 1.4]])
    np.testing.assert_array_equal(found.share, [0.0, 1.0])
