"""The study of `experiments.gsm8k_outcome_reward`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gsm8k_outcome_reward.config import Config
from experiments.gsm8k_outcome_reward.report import conclusion, write_report
from irl_jax.data.fields import string
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.lines import read_jsonl
from irl_jax.eval.best_of_n import best_of_n, vote, vote_probability
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.ranking import auc
from irl_jax.files import as_json
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.models.pretrained import minilm_path
from irl_jax.recipes.embeddings import embed_groups, embed_texts
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import Clock, given_model, kept, launch, splits
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.rewards.numeric import number
from irl_jax.rewards.text import after
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference, Rating

WRITERS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
BEST = "baseline / the best writer"
VOTE, ORACLE = "baseline / majority vote", "baseline / oracle"


@dataclass(frozen=True)
class Solutions:
    """N questions with the four writers' solutions.

    Attributes:
        records: questions and solutions.
        correct: bool[N, 4], as recorded.
        answer: i64[N, 4], equal numbers for equal answers to a question; -1 for none.
        agreement: share of the solutions whose recorded label is that of comparing its
            final answer with the true one.
    """

    records: list[GroupRecord]
    correct: np.ndarray
    answer: np.ndarray
    agreement: float


def read(path: Path | None) -> Solutions:
    """The questions, solutions and outcomes of a file.

    Raises:
        InputError: no path, a line that lacks something, or too few questions.
    """
    if path is None:
        raise InputError(
            "data: no file of solutions; get example_model_solutions.jsonl from "
            "github.com/openai/grade-school-math and give it, --data example_model_solutions.jsonl"
        )
    final = after("A:")
    records, correct, answers, truths = [], [], [], []
    for line, row in read_jsonl(path):
        source = f"{path}:{line}"
        try:
            solutions = [
                string(row[writer], "solution", f"{source}: `{writer}`") for writer in WRITERS
            ]
            correct.append([bool(row[writer]["is_correct"]) for writer in WRITERS])
            question, truth = (string(row, name, source) for name in ("question", "ground_truth"))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{source}: expected question, ground_truth, and solution and is_correct of "
                f"{', '.join(WRITERS)} ({error}); give example_model_solutions.jsonl"
            ) from error
        records.append(GroupRecord(question, list(solutions), {}, source))
        answers.append([number(final(text) or "") for text in solutions])
        truths.append(number(final(truth) or ""))
    if len(records) < 10:
        raise InputError(f"{path}: {len(records)} questions are too few to split; give 10 or more")
    label = [[-1 if a is None else row.index(a) for a in row] for row in answers]
    compared = [
        [a is not None and a == t for a in row] for row, t in zip(answers, truths, strict=True)
    ]
    agreement = float(np.mean(np.array(compared) == np.array(correct)))
    return Solutions(records, np.array(correct), np.array(label), agreement)


def embed(
    config: Config, records: list[GroupRecord], run: RunDirectory, progress: Progress
) -> dict[str, np.ndarray]:
    """Name of the embedding -> features f32[N, 4, F], from the run directory once made."""

    def sentences() -> dict[str, np.ndarray]:
        texts = [f"{r.prompt}\n{solution}" for r in records for solution in r.completions]
        vectors = embed_texts(
            config.sentence_encoder or minilm_path(),
            texts,
            max_tokens=256,
            batch_size=32,
            advance=progress.stage("sentence embeddings", len(texts)),
        )
        return {"features": vectors.reshape(len(records), len(WRITERS), -1)}

    def hidden_states() -> dict[str, np.ndarray]:
        model = load_language_model(
            config.language_model, run.path, seed=0, dtype=config.dtype, progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
        encoder = model.encoder(
            max_prompt=config.max_prompt, max_completion=config.max_completion, overlong="truncate"
        )
        features = embed_groups(
            model,
            encoder.groups(records),
            layers=config.layers,
            batch_size=8,
            advance=progress.stage("hidden states", len(records)),
        )
        return {"features": features}

    makers = {"sentence encoder": sentences, "language model": hidden_states}
    return {
        name: kept(run, name.replace(" ", "_"), make)["features"] for name, make in makers.items()
    }


def judged(score: jax.Array, weight: jax.Array) -> Rating:
    """N questions' K solutions as ratings: score f32[N, K], weight f32[N]."""
    absent: Any = None
    each = jnp.broadcast_to(weight[:, None], score.shape)
    return Rating(absent, absent, absent, score=score.reshape(-1), weight=each.reshape(-1))


def fit_outcomes(
    features: np.ndarray, score: np.ndarray, train: np.ndarray, config: EnsembleConfig
) -> np.ndarray:
    """Rewards f64[S, N, K] of heads trained by cross-entropy, all splits in one program.

    Args:
        features: f32[N, K, F].
        score: f64[S, N, K], the label of each solution, in [0, 1].
        train: bool[S, N], questions that a split learns from.
        config: of the heads.
    """
    x = jnp.asarray(features)
    flat = x.reshape(-1, x.shape[-1])

    def one(score: jax.Array, weight: jax.Array, key: jax.Array) -> jax.Array:
        reward, _ = fit_ensemble(
            flat, judged(score, weight), key, config=config, loss=binary_cross_entropy
        )
        return reward(x).mean(0)

    return _every_split(one, train, jnp.asarray(score, jnp.float32))


def fit_pairs(
    features: np.ndarray, correct: np.ndarray, train: np.ndarray, config: EnsembleConfig
) -> np.ndarray:
    """Rewards f64[S, N, K] of heads trained by Bradley-Terry on right and wrong solutions.

    Every right solution is paired with every wrong one to its question; a question's pairs
    share the weight 1, and one without such a pair teaches nothing.

    Args:
        features: f32[N, K, F].
        correct: bool[N, K].
        train: bool[S, N], questions that a split learns from.
        config: of the heads.
    """
    x = jnp.asarray(features)
    question, right, wrong = np.nonzero(correct[:, :, None] & ~correct[:, None, :])
    share = 1.0 / np.bincount(question, minlength=len(correct))[question]
    sides = x[question[:, None], np.stack([right, wrong], axis=1)]

    def one(weight: jax.Array, key: jax.Array) -> jax.Array:
        batch = Preference.without_tokens(weight[question] * share)
        reward, _ = fit_ensemble(sides, batch, key, config=config, loss=bradley_terry)
        return reward(x).mean(0)

    return _every_split(one, train)


def _every_split(one: Callable[..., jax.Array], train: np.ndarray, *data: jax.Array) -> np.ndarray:
    keys = jax.random.split(jax.random.key(1), len(train))
    weight = jnp.asarray(train, jnp.float32)
    return np.asarray(jax.vmap(one)(*data, weight, keys), np.float64)


def writer_accuracy(correct: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Share of right solutions of each writer among a split's questions, f64[S, N, K]."""
    share = (train[:, :, None] * correct).sum(1) / train.sum(1)[:, None]
    return np.broadcast_to(share[:, None], (len(train), *correct.shape))


def same_writers_auc(reward: np.ndarray, correct: np.ndarray) -> float:
    """How well differences of reward tell which of the same two writers was right.

    Of the questions that exactly one of writers a and b solved: the chance that
    r_a − r_b is larger where it was a than where it was b. Neither how hard a question is
    nor who wrote what can help.

    Args:
        reward: f64[N, K].
        correct: bool[N, K].
    """
    pairs = list(combinations(range(correct.shape[1]), 2))
    ahead = np.stack([reward[:, a] - reward[:, b] for a, b in pairs], axis=1)
    first = np.stack([correct[:, a] for a, _ in pairs], axis=1)
    differ = np.stack([correct[:, a] != correct[:, b] for a, b in pairs], axis=1)
    which = np.broadcast_to(np.arange(len(pairs)), differ.shape)
    return auc(ahead[differ], first[differ], which[differ])


def areas(reward: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Areas under the ROC curve of rewards f64[N, K], by what a comparison holds fixed."""
    n, k = correct.shape
    question, writer = np.divmod(np.arange(n * k), k)
    flat = reward.ravel(), correct.ravel()
    return {
        "over all": auc(*flat),
        "same writer": auc(*flat, writer),
        "same question": auc(*flat, question),
        "same question and two writers": same_writers_auc(reward, correct),
    }


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    solutions = read(config.data)
    inputs = {
        "data": config.data,
        "language_model": given_model(config.language_model),
        "tokenizer": config.tokenizer,
        "sentence_encoder": config.sentence_encoder or minilm_path(),
    }
    launch(config, partial(experiment, config, solutions), conclusion, inputs=inputs)


def experiment(config: Config, solutions: Solutions, run: RunDirectory, progress: Progress) -> None:
    """Embeds, trains every head on every split, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("embed"):
        embeddings = embed(config, solutions.records, run, progress)
    correct = solutions.correct
    train = splits(np.arange(len(correct)), config.held_out, config.seeds)
    everywhere = lambda x: np.broadcast_to(x, (len(train), *correct.shape))
    skill = writer_accuracy(correct, train)
    length = [[len(text) for text in r.completions] for r in solutions.records]
    rewards = {"baseline / shortest solution": everywhere(-np.array(length, np.float64))}
    with clock("train reward models"):
        advance = progress.stage("reward models", 3 * len(embeddings))
        for name, x in embeddings.items():
            heads: dict[str, Callable[..., np.ndarray]] = {
                "right or wrong": partial(fit_outcomes, x, everywhere(correct), train),
                "pairs of a question": partial(fit_pairs, x, correct, train),
                "recognises the writer": partial(fit_outcomes, x, skill, train),
            }
            for head, fit in heads.items():
                rewards[f"{name} / {head}"] = fit(config=config.reward)
                advance(len(rewards) - 1, {})
    with clock("evaluate"):
        summary = evaluate(solutions, train, rewards, skill)
    summary["seconds"] = clock.seconds
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def evaluate(
    solutions: Solutions, train: np.ndarray, rewards: dict[str, np.ndarray], skill: np.ndarray
) -> dict[str, Any]:
    """What the rewards choose for held-out questions, and how well they tell right from wrong.

    Args:
        solutions: the questions.
        train: bool[S, N].
        rewards: name -> f64[S, N, K].
        skill: f64[S, N, K], see `writer_accuracy`.
    """
    correct, held = solutions.correct, ~train
    ns = range(1, correct.shape[1] + 1)
    over_splits = lambda x: np.broadcast_to(x, train.shape)
    chosen = lambda reward, n: np.stack([best_of_n(r, correct, n) for r in reward])
    voted = {n: over_splits(vote(solutions.answer, correct, n)) for n in ns}
    oracle = {n: over_splits(best_of_n(correct, correct, n)) for n in ns}
    curves = {name: {n: chosen(reward, n) for n in ns} for name, reward in rewards.items()}
    curves = {VOTE: voted, ORACLE: oracle, **curves}
    value = {"baseline / random": voted[1], BEST: chosen(skill, max(ns))}
    value |= {name: by_n[max(ns)] for name, by_n in curves.items()}
    for name, reward in rewards.items():
        if name.endswith("right or wrong"):
            votes = [vote_probability(solutions.answer, 1 / (1 + np.exp(-r))) for r in reward]
            value[f"{name}, as weights of votes"] = (np.stack(votes) * correct).sum(2)
    seen = held.any(0)  # questions that some split holds out
    by_question = {
        name: ((v * held).sum(0) / np.maximum(held.sum(0), 1))[seen] for name, v in value.items()
    }
    by_split = {
        name: [float(v[h].mean()) for v, h in zip(values, held, strict=True)]
        for name, values in value.items()
    }
    area = {
        name: [areas(r[h], correct[h]) for r, h in zip(reward, held, strict=True)]
        for name, reward in {"baseline / accuracy of the writer": skill, **rewards}.items()
    }
    at_n = lambda v: bootstrap(((v * held).sum(0) / np.maximum(held.sum(0), 1))[seen])
    return {
        "questions": len(correct),
        "held_out_once": int(seen.sum()),
        "label_agreement": solutions.agreement,
        "by_writer": dict(zip(WRITERS, correct.mean(0).tolist(), strict=True)),
        "accuracy": {name: bootstrap(v) for name, v in by_question.items()},
        "over_splits": {name: bootstrap(v) for name, v in by_split.items()},
        "against_best_writer": {
            name: paired_difference(by_question[BEST], v) for name, v in by_question.items()
        },
        "against_vote": {
            name: paired_difference(by_question[VOTE], v) for name, v in by_question.items()
        },
        "auc": {
            name: {key: bootstrap([split[key] for split in found]) for key in found[0]}
            for name, found in area.items()
        },
        "best_of_n": {name: [at_n(by_n[n]) for n in ns] for name, by_n in curves.items()},
        "by_split": by_split,
    }
