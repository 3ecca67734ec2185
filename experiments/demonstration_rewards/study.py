"""The study of `experiments.demonstration_rewards`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demonstration_rewards.demonstrations import Draws, draw, matched
from experiments.demonstration_rewards.report import LOGISTIC, PREFERENCES, conclusion, write_report
from experiments.valence.answers import AnswersConfig, sample_answers
from irl_jax.eval.best_of_n import best_of_n, mean_curves
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.ranking import spearman
from irl_jax.files import as_json
from irl_jax.losses.divergence import DIVERGENCES, JENSEN_SHANNON, discriminator_batch, variational
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.masking import check_range
from irl_jax.recipes.launch import Clock, launch, splits
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.rollout.session import Completions
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference


@dataclass(frozen=True)
class Config:
    """Demonstrations and own samples of each training prompt, and who learns from them."""

    run_dir: Path = Path("runs/demonstration_rewards")  # directory of results; a run resumes there
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    demonstrations: int = 2  # demonstrations of each training prompt
    own_samples: int = 8  # model's samples of each training prompt, besides the demonstrations
    temperature: float = 0.2  # of the demonstrator and of the annotator, in units of gold
    labels: tuple[int, ...] = (1, 2, 4, 8)  # demonstrations, or comparisons, a prompt
    n: int = 8  # responses that best-of-n chooses from
    held_out: float = 0.25  # share of the prompts that is kept from training
    seeds: int = 10  # splits, each with demonstrations and models of its own
    seed: int = 0  # seed of the responses
    reward: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(members=2))


CONFIG = Config()
IN_PAIRS = "in pairs"
MEASURES = ("spearman", "accuracy", "gain")


def check(config: Config) -> None:
    """Raises `InputError` where a setting cannot work."""
    check_range("temperature", config.temperature, 0.0, exclusive=True)
    most = max(config.demonstrations, *config.labels) + config.own_samples
    if most > config.answers.completions:
        raise InputError(
            f"own_samples: with the demonstrations they are {most} of "
            f"{config.answers.completions} completions; give fewer"
        )
    if config.answers.prompts < 8:
        raise InputError(f"answers.prompts: {config.answers.prompts} are too few; give 8 or more")
    if not 1 <= config.n <= config.answers.completions:
        raise InputError(f"n: expected 1 to {config.answers.completions}, got {config.n}")


def learn(
    features: np.ndarray, rows: np.ndarray, batch: Any, loss: Callable, config: EnsembleConfig
) -> np.ndarray:
    """Rewards of all responses by models of each split, f64[S, P, K]; one program for all.

    Args:
        features: f32[P, K, F].
        rows: i64[S, N, ...], responses that a split learns from.
        batch: ratings or pairs, N of them.
        loss: of them.
        config: of the reward models; their mean is taken.
    """
    flat = jnp.asarray(features.reshape(-1, features.shape[-1]))

    def one(index: jax.Array, key: jax.Array) -> jax.Array:
        reward, _ = fit_ensemble(flat[index], batch, key, config=config, loss=loss)
        return reward(flat).mean(0)

    keys = jax.random.split(jax.random.key(1), len(rows))
    reward = jax.vmap(one)(jnp.asarray(rows), keys)
    return np.asarray(reward, np.float64).reshape(len(rows), *features.shape[:2])


def told_apart(
    features: np.ndarray, draws: Draws, loss: Callable, config: EnsembleConfig
) -> np.ndarray:
    """Rewards by models that tell demonstrations from own samples, f64[S, P, K]."""
    seeds = len(draws.own)
    sides = [x.reshape(seeds, -1) for x in (draws.demonstration, draws.own)]
    demonstrated = jnp.arange(sum(x.shape[1] for x in sides)) < sides[0].shape[1]
    return learn(
        features, np.concatenate(sides, 1), discriminator_batch(demonstrated), loss, config
    )


def in_order(features: np.ndarray, pairs: np.ndarray, config: EnsembleConfig) -> np.ndarray:
    """Rewards by models of pairs i64[S, R, ..., 2], better first; f64[S, P, K]."""
    rows = pairs.reshape(len(pairs), -1, 2)
    batch = Preference.without_tokens(jnp.ones(rows.shape[1]))
    return learn(features, rows, batch, bradley_terry, config)


def objectives(config: Config) -> dict[str, Callable[[np.ndarray, Draws], np.ndarray]]:
    """Name -> how rewards f64[S, P, K] are learned from features and draws."""
    discriminators = {LOGISTIC: binary_cross_entropy} | {
        divergence.name: partial(variational, divergence=divergence)
        for divergence in DIVERGENCES
        if divergence is not JENSEN_SHANNON
    }
    apart = lambda loss: lambda x, draws: told_apart(x, draws, loss, config.reward)
    return {name: apart(loss) for name, loss in discriminators.items()} | {
        IN_PAIRS: lambda x, draws: in_order(x, matched(draws), config.reward),
        PREFERENCES: lambda x, draws: in_order(x, draws.compared, config.reward),
    }


def baselines(responses: Completions) -> dict[str, np.ndarray]:
    """Name -> rewards f64[P, K] that need no training; equal ones stand for chance."""
    likelihood = np.where(responses.mask, responses.logp, 0.0).sum(-1, dtype=np.float64)
    length = responses.mask.sum(-1).astype(np.float64)
    return {
        "chance": np.zeros_like(length),
        "longer": length,
        "likelier": likelihood,
        "likelier a token": likelihood / np.maximum(length, 1),
    }


def measure(reward: np.ndarray, gold: np.ndarray, train: np.ndarray, n: int) -> dict[str, Any]:
    """Measures on held-out prompts, each a list of S.

    Args:
        reward: f64[S, P, K].
        gold: f64[P, K].
        train: bool[S, P].
        n: responses to choose from.

    Returns:
        `spearman`: mean over prompts of the correlation with gold among a prompt's
        responses; `accuracy`: share of pairs of responses to a prompt, of different
        gold, in its order; `gain`: gold of best-of-n less that of a random response.
    """
    ahead = lambda x: np.sign(x[:, :, None] - x[:, None, :])
    rows = []
    for r, t in zip(reward, train, strict=True):
        r, g = r[~t], gold[~t]
        order = ahead(g)
        right = (1 + ahead(r) * order)[order != 0] / 2
        rank = [spearman(a, b) for a, b in zip(r, g, strict=True) if np.ptp(b) > 0]
        gain = best_of_n(r, g, n) - g.mean(1)
        rows.append((np.mean(rank), right.mean(), gain.mean()))
    return dict(zip(MEASURES, np.array(rows).T.tolist(), strict=True))


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion, inputs=config.answers.inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Samples, draws, trains every objective on every split, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("sample responses"):
        responses = sample_answers(config.answers, run, progress, seed=config.seed)
    gold, features = responses.values["gold"], responses.values["features"]
    train = splits(np.arange(len(gold)), config.held_out, config.seeds)
    draws = lambda count: draw(
        gold, train, demonstrations=count, own=config.own_samples, temperature=config.temperature
    )
    every = lambda reward: np.broadcast_to(reward, (config.seeds, *gold.shape))
    ways = objectives(config)
    advance = progress.stage("rewards", len(ways) + 2 * len(config.labels))
    with clock("train reward models"):
        at = draws(config.demonstrations)
        learned: dict[str, np.ndarray] = {}
        for name, way in ways.items():
            learned[name] = way(features, at)
            advance(len(learned), {})
        curve: dict[str, list[Any]] = {LOGISTIC: [], PREFERENCES: []}
        for count in config.labels:
            for name, values in curve.items():
                reward = (
                    learned[name]
                    if count == config.demonstrations
                    else ways[name](features, draws(count))
                )
                values.append(measure(reward, gold, train, config.n))
                advance(len(learned) + sum(map(len, curve.values())), {})
    with clock("measure"):
        fixed = {name: every(reward) for name, reward in baselines(responses).items()}
        rows = {k: measure(v, gold, train, config.n) for k, v in (fixed | learned).items()}
        oracle = measure(every(gold), gold, train, config.n)
        summary = {
            "prompts": len(gold),
            "held_out": int((~train[0]).sum()),
            "gold_demonstrations": [float(gold.reshape(-1)[x].mean()) for x in at.demonstration],
            "gold_own": [float(gold.reshape(-1)[x].mean()) for x in at.own],
            "results": {k: {m: bootstrap(v[m]) for m in MEASURES} for k, v in rows.items()},
            "against_logistic": {
                k: {m: paired_difference(rows[LOGISTIC][m], rows[k][m]) for m in MEASURES}
                for k in learned
                if k != LOGISTIC
            },
            "oracle_gain": bootstrap(oracle["gain"]),
            "labels": list(config.labels),
            "by_labels": {
                k: {m: [bootstrap(v[m]) for v in values] for m in MEASURES}
                for k, values in curve.items()
            },
            "best_of_n": best_of_n_curves(
                {k: learned[k] for k in (LOGISTIC, PREFERENCES)} | {"gold itself": every(gold)},
                gold,
                train,
            ),
            "by_seed": rows,
            "seconds": clock.seconds,
        }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def best_of_n_curves(
    rewards: dict[str, np.ndarray], gold: np.ndarray, train: np.ndarray
) -> dict[str, list[Interval]]:
    """Gold of best-of-n on held-out prompts for n = 1, 2, 4, ..., over splits."""
    held_out = lambda reward: [r[~t] for r, t in zip(reward, train, strict=True)]
    gold = np.broadcast_to(gold, (len(train), *gold.shape))
    return {
        name: [bootstrap(x) for x in mean_curves(held_out(r), held_out(gold))["gold"].T]
        for name, r in rewards.items()
    }
