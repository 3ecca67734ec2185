"""The study of `experiments.prompt_oirl_gsm8k`: settings, stages, summary."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from experiments.prompt_oirl_gsm8k.config import Config
from experiments.prompt_oirl_gsm8k.report import conclusion, write_report
from experiments.prompt_oirl_gsm8k.rewards import PAPER, PROMPTS, Log, fit_all, kinds, read
from irl_jax.eval.calibration import calibration_error
from irl_jax.eval.difficulty import one_factor
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.ranking import auc
from irl_jax.files import as_json
from irl_jax.models.pretrained import minilm_path
from irl_jax.recipes.embeddings import embed_texts
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory


def taken(probability: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Whether the prompt of the highest probability was right, f64[..., N]."""
    best = probability.argmax(-1)[..., None]
    return np.take_along_axis(np.broadcast_to(correct, probability.shape), best, -1)[..., 0]


def preference_auc(rows: np.ndarray) -> float:
    """How well a reward tells which of two prompts was right where only one was.

    The AUC of the difference of two prompts' logits, the mean over pairs of prompts by
    their numbers of such questions. How hard a question is and how good a prompt is on
    the whole do not enter: 0.5 says that the reward knows no more than those.

    Args:
        rows: f64[N, 2, P], probabilities and whether the answer was right.
    """
    logit = np.log(rows[:, 0]) - np.log1p(-rows[:, 0])
    right = rows[:, 1]
    values, weights = [], []
    for a, b in itertools.combinations(range(right.shape[1]), 2):
        one = right[:, a] != right[:, b]
        values.append(auc(logit[one, a] - logit[one, b], right[one, a]))
        weights.append(one.sum())
    return float(np.average(values, weights=weights))


def compare_kinds(
    config: Config, vectors: dict[str, np.ndarray], log: Log, progress: Progress
) -> dict[str, np.ndarray]:
    """Probabilities of every kind of reward model.

    Returns:
        "folds / KIND" -> f32[N_train, P], each question's by a model that did not see it,
        and "test / KIND" -> f32[S, N_test, P], a model a seed.
    """
    n_train, prompts = int(log.train.sum()), log.correct.shape[1]
    fold = np.random.default_rng(0).permutation(n_train) % config.folds
    inside = np.zeros((config.folds + config.seeds, len(log.train)), bool)
    inside[:, :n_train] = True
    for k in range(config.folds):
        inside[k, :n_train] = fold != k
    weights = np.repeat(inside[..., None], prompts, axis=-1)
    named = kinds(config.reward)
    advance = progress.stage("reward models", len(named))
    out = {}
    for number, (name, fit) in enumerate(named.items()):
        probability = np.stack([*fit_all(fit, vectors, log.correct, weights, seed=number)])
        out[f"folds / {name}"] = probability[fold, np.arange(n_train)]
        out[f"test / {name}"] = probability[config.folds :, ~log.train]
        advance(number + 1, {})
    return out


def compare_subsets(
    config: Config, vectors: dict[str, np.ndarray], log: Log, progress: Progress
) -> dict[str, np.ndarray]:
    """What is learned from the logs of some of the prompts only, for every set of them.

    Returns:
        seen: bool[S, P], prompts whose logs were read; probability: f32[S, N_test, P].
    """
    seen = np.array([s for s in itertools.product((False, True), repeat=len(PROMPTS)) if any(s)])
    seen = seen[np.argsort(seen.sum(1), kind="stable")]
    fit = kinds(replace(config.reward, members=1))[PAPER]
    weights = (log.train[:, None] & some for some in seen)
    advance = progress.stage("sets of prompts", len(seen))
    parts: list[np.ndarray] = []
    for probability in fit_all(fit, vectors, log.correct, weights, seed=100):
        parts.append(probability[~log.train])
        advance(len(parts), {})
    return {"seen": seen, "probability": np.stack(parts)}


def judge_kinds(probability: dict[str, np.ndarray], log: Log) -> dict[str, Any]:
    """Accuracy of the chosen prompts, against the one that is best on the training questions."""
    train, test = log.correct[log.train], log.correct[~log.train]
    best, hindsight = train.mean(0).argmax(), test.mean(0).argmax()
    rows = {}
    for name in (key.partition(" / ")[2] for key in probability if key.startswith("folds / ")):
        folds, drawn = probability[f"folds / {name}"], probability[f"test / {name}"]
        chosen = taken(drawn, test)
        rows[name] = {
            "folds": bootstrap(taken(folds, train)),
            "folds_gain": paired_difference(train[:, best], taken(folds, train)),
            "test": bootstrap(chosen.mean(0)),
            "gain": paired_difference(test[:, best], chosen.mean(0)),
            "gain_over_hindsight": paired_difference(test[:, hindsight], chosen.mean(0)),
            "gain_over_random": paired_difference(test.mean(1), chosen.mean(0)),
            "by_seed": chosen.mean(1),
            "preference_auc": bootstrap(
                np.stack([folds, train], axis=1).astype(np.float64), preference_auc, resamples=200
            ),
        }
    return rows


def judge_prompts(probability: np.ndarray, log: Log) -> dict[str, Any]:
    """How good the rewards of each prompt are on the test questions, means over seeds."""
    test = log.correct[~log.train]
    mean = probability.mean(0).astype(np.float64)
    return {
        name: {
            "right": bootstrap(test[:, p]),
            "auc": bootstrap(
                np.stack([mean[:, p], test[:, p]], axis=1),
                lambda rows: auc(rows[:, 0], rows[:, 1]),
            ),
            "accuracy": bootstrap((mean[:, p] > 0.5) == test[:, p]),
            "calibration_error": calibration_error(mean[:, p], test[:, p]),
        }
        for p, name in enumerate(PROMPTS)
    }


def judge_subsets(seen: np.ndarray, probability: np.ndarray, log: Log) -> list[dict[str, Any]]:
    """By the number of prompts whose logs were read: choices among these, and among the others."""
    sizes = seen.sum(1)
    return [
        {"prompts": int(size), **judge_size(seen[sizes == size], probability[sizes == size], log)}
        for size in np.unique(sizes)
    ]


def judge_size(seen: np.ndarray, probability: np.ndarray, log: Log) -> dict[str, Any]:
    """Means over some sets of prompts, with their intervals over questions.

    Args:
        seen: bool[S, P], prompts whose logs were read.
        probability: f32[S, N_test, P].
        log: the log.
    """
    train, test = log.correct[log.train], log.correct[~log.train]

    def choose(among: np.ndarray) -> np.ndarray:
        return taken(np.where(among[:, None], probability, -1.0), test).mean(0)

    def each(statistic: Callable[..., Any], among: np.ndarray) -> np.ndarray:
        return np.mean([statistic(test[:, some]) for some in among], axis=0)

    single = test[:, np.where(seen, train.mean(0), -1.0).argmax(1)].mean(1)
    random = partial(np.mean, axis=1)
    row: dict[str, Any] = {
        "seen": bootstrap(choose(seen)),
        "seen_best": bootstrap(single),
        "seen_random": bootstrap(each(random, seen)),
        "seen_oracle": bootstrap(each(partial(np.max, axis=1), seen)),
        "seen_gain": paired_difference(single, choose(seen)),
    }
    if (~seen).sum(1).min() > 1:  # there is a choice among the others
        values = [auc(probability[s, :, p], test[:, p]) for s, p in np.argwhere(~seen)]
        row |= {
            "unseen": bootstrap(choose(~seen)),
            "unseen_random": bootstrap(each(random, ~seen)),
            "unseen_gain": paired_difference(each(random, ~seen), choose(~seen)),
            "unseen_auc": float(np.mean(values)),
        }
    return row


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    log = read(config.data, config.gsm8k)
    inputs = {
        "data": config.data,
        "gsm8k": config.gsm8k,
        "sentence_encoder": config.sentence_encoder or minilm_path(),
    }
    launch(config, partial(experiment, config, log), conclusion, inputs=inputs)


def experiment(config: Config, log: Log, run: RunDirectory, progress: Progress) -> None:
    """Embeds, learns, chooses, reports."""
    clock = Clock(run.path / "seconds.json")

    def embeddings() -> dict[str, np.ndarray]:
        embed = partial(
            embed_texts, config.sentence_encoder or minilm_path(), max_tokens=256, batch_size=32
        )
        advance = progress.stage("questions", len(log.questions))
        prompts = embed(list(PROMPTS.values()), advance=lambda done, metrics: None)
        return {"questions": embed(log.questions, advance=advance), "prompts": prompts}

    with clock("embed"):
        vectors = kept(run, "embeddings", embeddings)
    with clock("train reward models"):
        probability = kept(
            run, "probability", lambda: compare_kinds(config, vectors, log, progress)
        )
    with clock("train on sets of prompts"):
        subsets = kept(run, "subsets", lambda: compare_subsets(config, vectors, log, progress))
    with clock("intervals"):
        train, test = log.correct[log.train], log.correct[~log.train]
        rows = judge_kinds(probability, log)
        selected = max(rows, key=lambda name: rows[name]["folds"].estimate)
        summary = {
            "questions": {"train": len(train), "test": len(test)},
            "best_prompt": list(PROMPTS)[train.mean(0).argmax()],
            "best": bootstrap(test[:, train.mean(0).argmax()]),
            "hindsight": bootstrap(test[:, test.mean(0).argmax()]),
            "random": bootstrap(test.mean(1)),
            "oracle": bootstrap(test.max(1)),
            "difficulty": asdict(one_factor(train)),
            "train_any_right": bootstrap(train.max(1)),
            "selected": selected,
            "kinds": rows,
            "prompts": judge_prompts(probability[f"test / {selected}"], log),
            "subsets": judge_subsets(subsets["seen"], subsets["probability"], log),
        }
    summary["seconds"] = clock.seconds
    write_report(run, as_json(summary))
    run.finish(as_json(summary))
