"""The study of `experiments.decomposed_preferences`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.optimize

from experiments.decomposed_preferences.adaptation import (
    BASES,
    METHODS,
    POPULATION,
    TRUE_WEIGHTS,
    bases,
    rewards,
)
from experiments.decomposed_preferences.population import World, compare, worlds
from experiments.decomposed_preferences.report import conclusion, write_report
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Directions and mixtures on populations whose values are known."""

    run_dir: Path = Path("runs/decomposed_preferences")  # directory of results; a run resumes there
    features: Path | None = None  # .npy or .npz of real features f32[N, 2, F]; None: made ones only
    dims: int = 64  # features of a response
    attributes: int = 5  # directions along which people differ
    annotators: int = 200  # people whose comparisons are learned from
    comparisons: int = 50  # comparisons of each of these annotators
    new_annotators: int = 100  # people to adapt to
    adaptation: tuple[int, ...] = (0, 5, 10, 20, 50)  # comparisons of a new annotator
    held_out: int = 200  # other comparisons of each new annotator, to test on
    components: int = 5  # rewards in the mixture
    seeds: int = 10  # populations, each with models of its own
    mixture: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=4, widths=(), steps=300, batch_size=64, lr=0.05, weight_decay=0.1
        )
    )  # members are restarts, the best of which is kept


CONFIG = Config()


def accuracy(reward: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Share of held-out comparisons f32[A, n, D] that rewards f32[A, N, D] order right, f64[N]."""
    ahead = np.einsum("and,amd->anm", held, reward)
    return ((np.sign(ahead) + 1) / 2).mean((0, 1))


def recovery(basis: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    """How much of the attributes a basis holds, and how well direction meets attribute.

    Args:
        basis: f64[K, D], directions.
        truth: f64[K, D], attributes in whitened coordinates, orthonormal.
        scale: f64[D], of the features.

    Returns:
        Mean squared cosine of the principal angles between the two subspaces, in whitened
        coordinates: the share of the attributes' variance that the directions explain; and
        the mean absolute cosine of directions and attributes, in the best pairing.
    """
    rows = basis * scale
    q = np.linalg.qr(rows.T)[0].T
    cosine = np.abs(rows @ truth.T) / np.linalg.norm(rows, axis=1, keepdims=True)
    pairing = scipy.optimize.linear_sum_assignment(-cosine)
    return float(((q @ truth.T) ** 2).sum() / len(truth)), float(cosine[pairing].mean())


def growing(config: Config) -> tuple[int, ...]:
    """Numbers of annotators on which recovery is measured."""
    wanted = (2, 4, 8, 16, 32, 64, 128, 256, 512)
    return (*(a for a in wanted if config.attributes <= a < config.annotators), config.annotators)


def one_seed(config: Config, world: World, seed: int) -> dict[str, np.ndarray]:
    """Accuracy f64[methods, N], share and cosine f64[bases, annotators] of one population."""
    rng = np.random.default_rng([seed, 0])
    truth = world.directions(rng)
    values = world.values(rng, config.annotators + config.new_annotators)
    old, new = values[: config.annotators], values[config.annotators :]
    z = compare(world, rng, truth, old, config.comparisons, new=False)
    most = max(config.adaptation)
    later = compare(world, rng, truth, new, most + config.held_out, new=True)
    heads = truth / world.scale
    got = rewards(
        z, later[:, :most], np.float32(heads), jax.random.key(seed),
        count=config.attributes, adaptation=config.adaptation,
        components=config.components, config=config.mixture,
    )  # fmt: skip
    steps = (1, len(config.adaptation), 1)
    learned = {name: np.asarray(reward) for name, reward in got.items()}
    learned[TRUE_WEIGHTS] = np.tile((new @ heads)[:, None], steps)
    scores = {name: accuracy(reward, later[:, most:]) for name, reward in learned.items()}
    parts = []
    for a in growing(config):
        weight = np.float32(np.arange(config.annotators) < a)
        found = bases(z, weight, jax.random.key(seed), config.attributes)
        parts.append(
            [recovery(np.asarray(found[n], np.float64), truth, world.scale) for n in BASES]
        )
    return {
        "accuracy": np.array([scores[name] for name in METHODS]),
        "recovery": np.array(parts).transpose(2, 1, 0),
    }


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if sorted({*config.adaptation}) != list(config.adaptation) or config.adaptation[0] < 0:
        raise InputError(f"adaptation: expected increasing counts, got {config.adaptation}")
    if config.seeds < 2:
        raise InputError(f"seeds: an interval needs 2 or more, got {config.seeds}")
    found = worlds(config.dims, config.attributes, config.features)
    inputs = {"features": config.features}
    launch(config, partial(experiment, config, found), conclusion, inputs=inputs)


def experiment(
    config: Config, found: dict[str, World], run: RunDirectory, progress: Progress
) -> None:
    """Runs every seed of every world, and reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("populations", len(found) * config.seeds)
    results = {}
    for number, (name, world) in enumerate(found.items()):

        def all_seeds(world: World = world, number: int = number) -> dict[str, np.ndarray]:
            seeds = []
            for seed in range(config.seeds):
                seeds.append(one_seed(config, world, seed))
                advance(number * config.seeds + seed + 1, {})
            return {key: np.stack([one[key] for one in seeds]) for key in seeds[0]}

        with clock(name):
            results[name] = kept(run, name.replace(" ", "_"), all_seeds)
    summary = as_json(summarise(config, found, results) | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def summarise(
    config: Config, found: dict[str, World], results: dict[str, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Means over seeds with their intervals; `results` hold f64[S, ...] as of `one_seed`."""
    steps = range(len(config.adaptation))
    summary: dict[str, Any] = {
        "about": {name: world.about for name, world in found.items()},
        "adaptation": config.adaptation,
        "comparisons": [a * config.comparisons for a in growing(config)],
        "accuracy": {}, "against_population": {}, "share": {}, "cosine": {},
    }  # fmt: skip
    for name, result in results.items():
        score = {m: result["accuracy"][:, i] for i, m in enumerate(METHODS)}
        summary["accuracy"][name] = {
            m: [bootstrap(s[:, i]) for i in steps] for m, s in score.items()
        }
        summary["against_population"][name] = {
            m: [paired_difference(score[POPULATION][:, i], s[:, i]) for i in steps]
            for m, s in score.items()
            if m != POPULATION
        }
        for at, key in enumerate(("share", "cosine")):
            summary[key][name] = {
                basis: [bootstrap(column) for column in result["recovery"][:, at, i].T]
                for i, basis in enumerate(BASES)
            }
    return summary
