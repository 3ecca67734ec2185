"""Rewards from marked errors and from comparisons, over many splits at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.fine_grained_feedback.data import ANSWERS, KINDS, PAIRS, Example, cut, labels
from irl_jax.eval.ranking import auc
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.models.heads import pool_segments
from irl_jax.rewards.dense import correctness, dense_reward
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.types import Loss, Preference, Rating

PAPER_WEIGHTS = (0.3, 0.5, 0.3)  # of `KINDS`, in the configuration of the authors' code
LINEAR = EnsembleConfig(members=1, widths=(), steps=300, lr=0.03, weight_decay=0.0)
FIXED, DENSE, SEQUENCE, BOTH = (
    "dense, weights of the paper",
    "dense, weights fitted",
    "whole answer",
    "dense + whole answer",
)


@dataclass(frozen=True)
class Answers:
    """Features of N questions' answers, cut as each kind of error asks.

    Attributes:
        segments: kind -> i32[N, 4, G], the segment that each part of a sentence is in.
        features: kind -> f32[N, 4, G_kind, D].
        label: kind -> f32[N, G_kind], 1 if a segment of the first answer is wrong; NaN
            where there is none, or nobody looked.
    """

    segments: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    label: dict[str, np.ndarray]

    @property
    def whole(self) -> np.ndarray:
        """Features of whole answers, f32[N, 4, D]."""
        return self.features[KINDS[-1]][:, :, 0]


def gather(examples: list[Example], parts: np.ndarray, tokens: np.ndarray) -> Answers:
    """Features and labels of segments of every kind, from those of the parts of sentences.

    Args:
        examples: N questions.
        parts: f16[N, 4, G, D].
        tokens: i32[N, 4, G].
    """
    n, k, g, _ = parts.shape
    sentence = np.zeros((n, k, g), np.int32)
    for i, example in enumerate(examples):
        for j, answer in enumerate(example.answers):
            of_part = cut(answer).sentence[:g]
            sentence[i, j, : len(of_part)] = of_part
    there = tokens > 0
    numbers: tuple = (np.arange(1, g + 1), sentence, 1)
    segments: dict[str, np.ndarray] = {
        kind: np.where(there, x, 0).astype(np.int32) for kind, x in zip(KINDS, numbers, strict=True)
    }
    pooled, label = {}, {}
    features = parts.astype(np.float32)  # by NumPy: XLA needs F16C of the processor for it
    found = [labels(example) for example in examples]
    for at, (kind, segment) in enumerate(segments.items()):
        most = int(segment.max())
        mean, weight = pool_segments(
            jnp.asarray(features), jnp.asarray(segment), most, jnp.asarray(tokens)
        )
        pooled[kind] = np.asarray(mean)
        known = np.full((n, most), np.nan, np.float32)
        for i, of_kind in enumerate(found):
            known[i, : len(of_kind[at])] = of_kind[at][:most]
        label[kind] = np.where(np.asarray(weight)[:, 0] > 0, known, np.nan)
    return Answers(segments, pooled, label)


@dataclass(frozen=True)
class Split:
    """Which of N questions each of S splits learns from.

    Attributes:
        train: bool[S, N], those that may be learned from; the others are held out.
        chosen: bool[S, N], those of them that are.
    """

    train: np.ndarray
    chosen: np.ndarray

    def rows(self, question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of chosen questions, repeated so that all sizes share one program.

        Args:
            question: i64[R], the question of each row.

        Returns:
            i32[S, M] rows, M the most that any split may learn from, and f32[S, M]
            weights, such that those of a row add to 1.
        """
        most = int(max(each[question].sum() for each in self.train))
        found = [np.flatnonzero(each[question]) for each in self.chosen]
        rows = np.stack([np.resize(each, most) for each in found])
        times = [np.bincount(each, minlength=len(question)) for each in rows]
        weight = np.stack([1.0 / n[each] for n, each in zip(times, rows, strict=True)])
        return rows.astype(np.int32), weight.astype(np.float32)


def split_of(train: np.ndarray, questions: int) -> Split:
    """A number of training questions of each split; a smaller one's are among a larger's."""
    chosen = np.zeros_like(train)
    for seed, each in enumerate(train):
        order = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(each))
        chosen[seed, order[:questions]] = True
    return Split(train, chosen)


@partial(jax.jit, static_argnames=("loss", "config"))
def fit_splits(
    features: Array,
    score: Array | None,
    weight: Array,
    everything: Array,
    *,
    loss: Callable[[Array, Any], Loss],
    config: EnsembleConfig,
) -> Array:
    """Rewards under the mean of each split's ensemble; all splits train in one program.

    Args:
        features: f32[S, M, ..., D], what each split learns from.
        score: f32[S, M], ratings; None if the rows are pairs.
        weight: f32[S, M].
        everything: f32[S, ..., D] or, for all splits alike, f32[1, ..., D].
        loss: of the rows.
        config: of the ensemble.

    Returns:
        f32[S, ...].
    """
    absent: Any = None

    def one(x: Array, score: Array | None, weight: Array, key: Array, new: Array) -> Array:
        batch = (
            Preference.without_tokens(weight)
            if score is None
            else Rating(absent, absent, absent, score, weight)
        )
        return fit_ensemble(x, batch, key, config=config, loss=loss)[0](new).mean(0)

    shared = everything.shape[0] == 1
    axes = (0, None if score is None else 0, 0, 0, None if shared else 0)
    new = everything[0] if shared else everything
    keys = jax.random.split(jax.random.key(1), len(weight))
    return jax.vmap(one, axes)(features, score, weight, keys, new)


@dataclass(frozen=True)
class Pairs:
    """Comparisons in which one side was preferred, C of them.

    Attributes:
        question: i64[C].
        sides: i64[C, 2], the two answers, the preferred one first.
    """

    question: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, examples: list[Example]) -> Pairs:
        """All of them, in the order of the file; those without a preference are left out."""
        found = [
            (i, *(pair if preferred == 1 else pair[::-1]))
            for i, example in enumerate(examples)
            for pair, preferred in zip(PAIRS, example.preference, strict=True)
            if preferred
        ]
        columns = np.array(found)
        return cls(columns[:, 0], columns[:, 1:])

    def take(self, values: np.ndarray) -> np.ndarray:
        """[N, 4, ...] of answers -> [C, 2, ...] of the two sides."""
        return values[self.question[:, None], self.sides]

    def where(self, keep: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.question[keep], self.sides[keep])


def dense_scores(answers: Answers, split: Split, config: EnsembleConfig) -> list[Array]:
    """Scores in [−1, 1] of all segments, for each kind f32[S, N, 4, G_kind].

    Args:
        answers: features, and labels of the first answers.
        split: questions to learn from.
        config: of the classifiers.
    """
    out = []
    for kind in KINDS:
        question, segment = np.nonzero(~np.isnan(answers.label[kind]))
        rows, weight = split.rows(question)
        features = answers.features[kind]
        logits = fit_splits(
            jnp.asarray(features[:, 0])[question[rows], segment[rows]],
            jnp.asarray(answers.label[kind][question[rows], segment[rows]]),
            jnp.asarray(weight),
            jnp.asarray(features)[None],
            loss=binary_cross_entropy,
            config=config,
        )
        out.append(correctness(logits))
    return out


def paid(answers: Answers, scores: list[Array]) -> np.ndarray:
    """What each kind pays an answer, f32[S, N, 4, 3]: its dense reward, summed."""
    segments = [
        jnp.broadcast_to(answers.segments[kind], (len(scores[0]), *answers.segments[kind].shape))
        for kind in KINDS
    ]
    one = lambda at: dense_reward([scores[at]], [segments[at]], weights=[1.0]).sum(-1)
    return np.stack([np.asarray(one(at)) for at in range(len(KINDS))], axis=-1)


def by_comparisons(
    values: np.ndarray, pairs: Pairs, split: Split, config: EnsembleConfig
) -> np.ndarray:
    """Bradley-Terry rewards of all answers, f32[S, N, 4].

    Args:
        values: f32[1 or S, N, 4, D], features of answers, for all splits alike or each.
        pairs: to learn from, where the split says so.
        split: questions to learn from.
        config: of the reward models.
    """
    rows, weight = split.rows(pairs.question)
    sides = np.stack([pairs.take(each) for each in values])
    at = np.arange(len(values))[:, None] if len(values) > 1 else 0
    return np.asarray(
        fit_splits(
            jnp.asarray(sides[at, rows]),
            None,
            jnp.asarray(weight),
            jnp.asarray(values),
            loss=bradley_terry,
            config=config,
        )
    )


def centred(reward: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """f32[S, N, 4] less the mean over a question's answers, of unit scale where chosen."""
    inside = reward - reward.mean(-1, keepdims=True)
    scale = np.array([each[c].std() for each, c in zip(inside, chosen, strict=True)])
    return inside / np.where(scale > 0, scale, 1.0)[:, None, None]


def rewards(
    answers: Answers, pairs: Pairs, split: Split, config: EnsembleConfig
) -> tuple[dict[str, np.ndarray], list[Array]]:
    """Name -> reward of all answers f32[S, N, 4]; and the scores of their segments.

    The weights of the kinds are fitted to comparisons among the second to fourth
    answers alone: the classifiers know the labels of the first by heart.
    """
    scores = dense_scores(answers, split, config)
    totals = paid(answers, scores)
    unmarked = pairs.where((pairs.sides > 0).all(1))
    dense = by_comparisons(totals, unmarked, split, LINEAR)
    whole = by_comparisons(answers.whole[None], pairs, split, config)
    named = {
        FIXED: (totals * np.array(PAPER_WEIGHTS)).sum(-1),
        DENSE: dense,
        SEQUENCE: whole,
        BOTH: centred(dense, split.chosen) + centred(whole, split.chosen),
    }
    return named | {f"dense, {kind} alone": totals[..., k] for k, kind in enumerate(KINDS)}, scores


def accuracies(reward: np.ndarray, pairs: Pairs, held_out: np.ndarray) -> np.ndarray:
    """Share of each split's held-out pairs that are in order, f64[S]; a tie is half."""
    out = []
    for each, new in zip(reward, held_out, strict=True):
        sides = pairs.where(new[pairs.question]).take(each)
        out.append(((np.sign(sides[:, 0] - sides[:, 1]) + 1) / 2).mean())
    return np.array(out)


def first_against_others(reward: np.ndarray, pairs: Pairs, held_out: np.ndarray) -> np.ndarray:
    """How well a reward tells the first answer's wins from its losses, AUC f64[S].

    Unlike accuracy it does not ask for a threshold, so that what is known of the first
    answer alone can be held against a difference of two.
    """
    with_first = pairs.where((pairs.sides == 0).any(1))
    won = with_first.sides[:, 0] == 0
    out = []
    for each, new in zip(reward, held_out, strict=True):
        here = new[with_first.question]
        sides = with_first.take(each)
        ahead = np.where(won, 1, -1) * (sides[:, 0] - sides[:, 1])
        out.append(auc(ahead[here], won[here]))
    return np.array(out)


def marked(answers: Answers, pairs: Pairs, split: Split) -> np.ndarray:
    """A reward of the first answer by its marked errors, f32[S, N, 4]; 0 for the others.

    What a dense reward without mistakes would know of one side. The weights of the
    kinds are fitted to how often the first answer was preferred.
    """
    counts = np.stack([np.nansum(1 - 2 * answers.label[k], axis=1) for k in KINDS], axis=-1)
    with_first = pairs.where((pairs.sides == 0).any(1))
    rows, weight = split.rows(with_first.question)
    won = (with_first.sides[:, 0] == 0).astype(np.float32)
    logits = fit_splits(
        jnp.asarray(counts[with_first.question][rows]),
        jnp.asarray(won[rows]),
        jnp.asarray(weight),
        jnp.asarray(counts)[None],
        loss=binary_cross_entropy,
        config=LINEAR,
    )
    out = np.zeros((*logits.shape, ANSWERS), np.float32)
    out[..., 0] = logits
    return out


def detection(answers: Answers, scores: list[Array], held_out: np.ndarray) -> dict[str, np.ndarray]:
    """How well a dense reward finds the errors of new first answers: kind -> AUC f64[S]."""
    out = {}
    for kind, score in zip(KINDS, scores, strict=True):
        label, found = answers.label[kind], np.asarray(score)[:, :, 0]
        out[kind] = np.array(
            [
                auc(-each[new][known := ~np.isnan(label[new])], label[new][known] == 1)
                for each, new in zip(found, held_out, strict=True)
            ]
        )
    return out
