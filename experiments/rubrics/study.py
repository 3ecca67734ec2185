"""The study of `experiments.rubrics`: settings, arms, summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rubrics.report import conclusion, write_report
from experiments.rubrics.world import OFF, ON, chosen_first, judge, make_world, responses
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.masking import check_range
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.directions import map_weights
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.rewards.rubrics import Criterion, learned_weights
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference

GIVEN = "rubric, the author's weights"
LEARNED = "rubric, learned weights"
BLANK = "rubric, weights learned from 0"
POOR = "rubric, learned, poor judge"
DRIFTS = "rubric, learned, judge worse off"
HALF = "rubric, learned, half the criteria"
LINEAR = "linear on embeddings"
PERCEPTRONS = "perceptrons on embeddings"
ARMS = (GIVEN, LEARNED, BLANK, POOR, DRIFTS, HALF, LINEAR, PERCEPTRONS)
PLACES = (ON, OFF)
_weights = jax.jit(map_weights)


@dataclass(frozen=True)
class Config:
    """Rubrics and rewards on embeddings in worlds whose gold is known."""

    run_dir: Path = Path("runs/rubrics")  # directory of results; a run resumes there
    dims: int = 64  # features of a response
    criteria: int = 6  # that gold is made of
    idle: int = 4  # in the rubric, too, that gold does not know
    pairs: tuple[int, ...] = (25, 100, 400, 1600)  # comparisons to learn from
    held_out: int = 2000  # pairs to test on, on and off the distribution each
    error: float = 0.05  # share of a good judge's answers that are wrong
    poor: float = 0.3  # of a poor one's, and of one that is worse off the distribution
    strength: float = 1.0  # of the priors of weights, linear ones on embeddings too
    seeds: int = 20  # worlds
    perceptrons: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=4, widths=(64,), steps=300, batch_size=64, lr=3e-3, weight_decay=0.1
        )
    )  # the ensemble's mean is the reward

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("dims", self.dims, 2)
        if sorted({*self.pairs}) != list(self.pairs) or self.pairs[:1] < (1,):
            raise InputError(f"pairs: expected increasing counts from 1, got {self.pairs}")


CONFIG = Config()


def accuracy(reward: np.ndarray, gold: np.ndarray) -> float:
    """Share of the pairs f64[N, 2] whose gold differs that a reward orders right; a tie is half."""
    ahead, truly = reward[:, 0] - reward[:, 1], gold[:, 0] - gold[:, 1]
    some = truly != 0
    return float(((np.sign(ahead) * np.sign(truly))[some] + 1).mean() / 2)


def rubric_weights(judged: np.ndarray, guess: np.ndarray, count: int, config: Config) -> np.ndarray:
    """Weights learned from the first pairs, f64[K]; `judged` is f64[N, 2, K], chosen first."""
    rubric = [Criterion(f"criterion {k}", float(w), str(k)) for k, w in enumerate(guess)]
    weight = jnp.arange(len(judged)) < count  # one shape, one program
    found = learned_weights(
        jnp.float32(judged), jnp.float32(weight), rubric, strength=config.strength
    )
    return np.array([criterion.weight for criterion in found])


def scalar_rewards(
    x: np.ndarray, tests: dict[str, np.ndarray], count: int, key: jax.Array, config: Config
) -> dict[str, dict[str, np.ndarray]]:
    """Rewards on embeddings from the first pairs of f64[N, 2, D]: arm -> place -> f64[T, 2]."""
    weight = jnp.float32(np.arange(len(x)) < count)
    scale = x[:count].std((0, 1))
    z = jnp.float32((x[:, 0] - x[:, 1]) / scale)
    dims = z.shape[1]
    linear = np.asarray(
        _weights(z, weight, mean=jnp.zeros(dims), precision=config.strength * jnp.eye(dims))
    )
    ensemble, _ = fit_ensemble(
        jnp.float32(x[:count]), Preference.without_tokens(jnp.ones(count)), key,
        config=config.perceptrons,
    )  # fmt: skip
    return {
        LINEAR: {place: (test / scale) @ linear for place, test in tests.items()},
        PERCEPTRONS: {
            place: np.asarray(ensemble(jnp.float32(test))).mean(0) for place, test in tests.items()
        },
    }


def one_world(config: Config, seed: int) -> np.ndarray:
    """Accuracy of every arm, f64[places, arms, pairs]."""
    rng = np.random.default_rng([seed, 0])
    world = make_world(rng, dims=config.dims, criteria=config.criteria, idle=config.idle)
    x = responses(rng, world, config.pairs[-1], ON)
    order = chosen_first(rng, world.gold(x))
    x = np.take_along_axis(x, order[..., None], 1)
    tests = {place: responses(rng, world, config.held_out, place) for place in PLACES}
    gold = {place: world.gold(test) for place, test in tests.items()}
    judges = {
        LEARNED: (config.error, config.error),
        POOR: (config.poor, config.poor),
        DRIFTS: (config.error, config.poor),
    }
    seen = {arm: judge(rng, world.met(x), errors[0]) for arm, errors in judges.items()}
    said = {
        arm: {
            p: judge(rng, world.met(t), e) for (p, t), e in zip(tests.items(), errors, strict=True)
        }
        for arm, errors in judges.items()
    }
    half = np.arange(len(world.guess)) % 2 == 0
    found = np.zeros((len(PLACES), len(ARMS), len(config.pairs)))
    for n, count in enumerate(config.pairs):
        learn = partial(rubric_weights, count=count, config=config)
        rewards = scalar_rewards(x, tests, count, jax.random.key(seed), config)
        weights = {arm: learn(seen[arm], world.guess) for arm in judges}
        weights |= {GIVEN: world.guess, BLANK: learn(seen[LEARNED], 0 * world.guess)}
        weights[HALF] = learn(seen[LEARNED] * half, world.guess * half)
        for arm, w in weights.items():
            rewards[arm] = {p: c @ w for p, c in said.get(arm, said[LEARNED]).items()}
        for i, place in enumerate(PLACES):
            for j, arm in enumerate(ARMS):
                found[i, j, n] = accuracy(rewards[arm][place], gold[place])
    return found


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Learns in every world, and reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.seeds)

    def all_worlds() -> dict[str, np.ndarray]:
        found = []
        for seed in range(config.seeds):
            found.append(one_world(config, seed))
            advance(seed + 1, {})
        return {"accuracy": np.stack(found)}

    with clock("worlds"):
        found = kept(run, "accuracy", all_worlds)["accuracy"]
    summary = as_json(summarise(config, found) | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def summarise(config: Config, found: np.ndarray) -> dict[str, Any]:
    """Means over worlds with their intervals, and differences to the perceptrons.

    Args:
        config: of the run.
        found: f64[worlds, places, arms, pairs].

    Returns:
        `p` are adjusted by Holm over all differences of a place.
    """
    summary: dict[str, Any] = {"pairs": config.pairs, "accuracy": {}, "ahead": {}, "p": {}}
    base = ARMS.index(PERCEPTRONS)
    for i, place in enumerate(PLACES):
        score = found[:, i]
        summary["accuracy"][place] = {
            arm: [t_interval(column) for column in score[:, j].T] for j, arm in enumerate(ARMS)
        }
        others = [(j, arm) for j, arm in enumerate(ARMS) if j != base]
        ahead = {arm: score[:, j] - score[:, base] for j, arm in others}
        summary["ahead"][place] = {
            arm: [t_interval(column) for column in gap.T] for arm, gap in ahead.items()
        }
        p = adjusted(
            {f"{arm}, {n}": gap[:, k] for arm, gap in ahead.items()
             for k, n in enumerate(config.pairs)}
        )  # fmt: skip
        summary["p"][place] = {arm: [p[f"{arm}, {n}"] for n in config.pairs] for arm in ahead}
    return summary
