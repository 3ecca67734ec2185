"""A world whose gold is a weighted sum of criteria: responses, judges, comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irl_jax.eval.annotator import logistic_annotator, prefers_first

QUIET = 0.2  # standard deviation, on the distribution, of the half of the features that is quiet
ON, OFF = "on", "off"  # the distribution of the comparisons

Rng = np.random.Generator


@dataclass(frozen=True)
class World:
    """Criteria of responses x, f64[D]: criterion k is met where a_k · x > b_k.

    Attributes:
        direction: a, f64[K, D], unit vectors.
        threshold: b, f64[K].
        weight: f64[K], of each criterion in gold; 0 for idle ones.
        guess: f64[K], 1 or −1: the weights that the author of the rubric gave.
    """

    direction: np.ndarray
    threshold: np.ndarray
    weight: np.ndarray
    guess: np.ndarray

    def met(self, x: np.ndarray) -> np.ndarray:
        """f64[..., D] -> f64[..., K], 1 where a criterion is met."""
        return (x @ self.direction.T > self.threshold).astype(np.float64)

    def gold(self, x: np.ndarray) -> np.ndarray:
        """f64[..., D] -> f64[...]."""
        return self.met(x) @ self.weight


def make_world(rng: Rng, *, dims: int, criteria: int, idle: int) -> World:
    """A world with criteria of random directions; the author knows the signs of those that count.

    Args:
        rng: of the world.
        dims: D.
        criteria: those that count.
        idle: those that do not, with signs guessed at random.
    """
    count = criteria + idle
    direction = rng.standard_normal((count, dims))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    weight = rng.uniform(0.5, 3.0, count) * rng.choice([-1.0, 1.0], count)
    guess = np.where(np.arange(count) < criteria, np.sign(weight), rng.choice([-1.0, 1.0], count))
    weight[criteria:] = 0.0
    return World(direction, 0.3 * rng.standard_normal(count), weight, guess)


def responses(rng: Rng, world: World, count: int, where: str) -> np.ndarray:
    """Pairs of responses, f64[count, 2, D]; off the distribution every feature varies alike."""
    dims = world.direction.shape[1]
    scale = np.where(np.arange(dims) < dims // 2, 1.0, QUIET if where == ON else 1.0)
    return scale * rng.standard_normal((count, 2, dims))


def judge(rng: Rng, met: np.ndarray, error: float) -> np.ndarray:
    """What a judge says of each criterion: the truth, wrong in a share of cases."""
    return np.where(rng.random(met.shape) < error, 1.0 - met, met)


def chosen_first(rng: Rng, gold: np.ndarray) -> np.ndarray:
    """Order of the sides of pairs f64[N, 2], i64[N, 2], the side that an annotator chose first."""
    first = prefers_first(gold[:, 0] - gold[:, 1], logistic_annotator(1.0), rng)
    return np.where(first[:, None], [0, 1], [1, 0])
