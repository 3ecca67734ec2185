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
    ANNOTATORS,
    BASES,
    METHODS,
    MIXTURE,
    PCA,
    POPULATION,
    REFERENCES,
    SCRATCH,
    SOFTMAX,
    TRUE_WEIGHTS,
    bases,
    rewards,
)
from experiments.decomposed_preferences.population import World, compare, worlds
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Directions and mixtures on populations whose values are known."""

    run_dir: Path = Path("runs/decomposed_preferences")  # what is written; a run goes on there
    features: Path | None = None  # .npy or .npz of real features f32[N, 2, F]; None: made ones only
    dims: int = 64  # features of a response
    attributes: int = 5  # directions along which people differ
    annotators: int = 200  # people whose comparisons are learned from
    comparisons: int = 50  # of each of them
    new_annotators: int = 100  # people to adapt to
    adaptation: tuple[int, ...] = (0, 5, 10, 20, 50)  # comparisons of a new annotator
    held_out: int = 200  # other comparisons of each new annotator, to test on
    components: int = 5  # rewards of the mixture
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
    write_report(run, config, summary)
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


def intervals(values: list) -> list[Interval]:
    """Intervals as summary.json holds them."""
    return [Interval(*value) for value in values]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    lines = ["", "held-out accuracy, mean over seeds, after n comparisons of a new annotator"]
    for world, methods in summary["accuracy"].items():
        lines.append(f"  {world:42}" + "".join(f"{n:8}" for n in summary["adaptation"]))
        for name, values in methods.items():
            lines.append(f"    {name:40}" + "".join(f"{value[0]:8.3f}" for value in values))
    lines.append(f"report {report}")
    return "\n".join(lines)


def short(method: str) -> str:
    """A method without how its weights are found, where that is by MAP."""
    return method.removesuffix(", MAP weights")


def world_section(name: str, summary: dict[str, Any]) -> Any:
    """Accuracy over comparisons, and recovery of the attributes, in one world."""
    counts, seen = summary["adaptation"], summary["comparisons"]
    scores = {m: intervals(v) for m, v in summary["accuracy"][name].items()}
    share = {b: intervals(v) for b, v in summary["share"][name].items()}
    cosine = {b: intervals(v)[-1] for b, v in summary["cosine"][name].items()}
    accuracy_curves = [
        from_intervals(m, counts, v, reference=m in REFERENCES) for m, v in scores.items()
    ]
    share_curves = [from_intervals(short(b), seen, v) for b, v in share.items()]
    return section(
        name.capitalize(),
        f"{summary['about'][name][0].upper()}{summary['about'][name][1:]}.",
        figures(
            figure(
                lines({"held-out accuracy": accuracy_curves}, x="comparisons of the new annotator"),
                "Share of a new annotator's other comparisons that are ordered right.",
            ),
            figure(
                lines({"share of the attributes": share_curves}, x="comparisons learned from"),
                "Variance of the true attributes that the directions explain.",
            ),
        ),
        table(
            ["method", *(f"{n} comparisons" for n in counts)],
            [[m, *v] for m, v in scores.items()],
        ),
        table(
            ["directions", "share of the attributes", "cosine, direction to attribute"],
            [[short(b), v[-1], cosine[b]] for b, v in share.items()],
        ),
    )


def write_report(run: RunDirectory, config: Config, summary: dict[str, Any]) -> None:
    """Writes report.html: a section for each world."""
    at = min(2, len(config.adaptation) - 1)
    gain = {
        name: {m: Interval(*values[at]) for m, values in methods.items()}
        for name, methods in summary["against_population"].items()
    }
    telling = [
        ("main axes", PCA), ("unrelated", PCA), ("unrelated", ANNOTATORS), ("types", MIXTURE)
    ]  # fmt: skip
    heads = [
        card(
            f"{name}: {short(method)}",
            f"{gain[name][method].estimate:+.3f}".replace("-", "−"),
            f"accuracy above the population reward after {config.adaptation[at]} comparisons",
            interval=gain[name][method],
            tone="good" if gain[name][method].low > 0 else "plain",
        )
        for name, method in telling
    ]
    compared = (PCA, SOFTMAX, ANNOTATORS, MIXTURE, SCRATCH)
    write_study(
        run,
        summary["seconds"],
        "Directions of preference for new annotators",
        [
            section(
                "Results",
                cards(*heads),
                f"Accuracy above the population reward after {config.adaptation[at]} comparisons:",
                table(
                    ["population", *map(short, compared)],
                    [[name, *(values[m] for m in compared)] for name, values in gain.items()],
                ),
                f"Means over {config.seeds} populations with 95 % intervals over populations. "
                "Reward models learn from some annotators; a new annotator gives a few comparisons "
                "and is then tested on others. Labels are noisy: the true weights themselves are "
                "right as often as the last line of each table says.",
                UNCORRECTED,
                "Principal directions of comparisons are those of the features, since flipping a "
                "label leaves the second moment as it is: they serve where people differ along "
                "the axes of large variance. Directions of annotators' means use who compared "
                "what, and do not need that.",
            ),
            *(world_section(name, summary) for name in summary["accuracy"]),
        ],
        subtitle="Accuracy on a new annotator's comparisons, by how many were seen.",
    )
