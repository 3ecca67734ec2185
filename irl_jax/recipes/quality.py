"""How well rewards order held-out completions, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jax import Array

from irl_jax.eval.calibration import calibration_error, pair_confidence
from irl_jax.eval.intervals import Interval, bootstrap
from irl_jax.eval.probes import length_bias
from irl_jax.eval.ranking import auc, pair_accuracy, pooled, spearman
from irl_jax.losses.scores import log_ratio
from irl_jax.models.mesh import fetch, global_batch
from irl_jax.recipes.examples import Examples, prompt_ids
from irl_jax.rollout.session import Session, chunks
from irl_jax.train.progress import Advance
from irl_jax.types import PyTree

ORDERED = ("pairs", "rankings", "ratings")  # kinds of examples that say how good completions are
LABELS = {
    "accuracy": "held-out pairs in order",
    "longer_accuracy": "  by length: longer is better",
    "spearman": "rank correlation with the scores",
    "auc": "AUC, good against bad",
}


def score(
    session: Session,
    examples: Examples,
    rewards: Callable[[Any], Array],
    *,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """Rewards of the held-out completions, f64[N, ..., K].

    Args:
        session: the model whose tokens they are.
        examples: N of them are held out, with K completions each.
        rewards: batch of B examples, its actions i32[B, K, T] -> f32[B, ..., K].
        batch_size: B.
        advance: told the number of examples done.
    """
    collate = partial(examples.kind.collate, pad_id=session.model.tokenizer.pad_id)
    found, done = [], 0
    for count, rows in chunks(examples.held_out, batch_size):
        batch = collate(rows, examples.shapes[-1])
        if batch.action.ndim == 2:  # a completion a row
            batch = replace(batch, action=batch.action[:, None], mask=batch.mask[:, None])
        found.append(fetch(rewards(batch))[:count])
        done += count
        advance(done, {})
    return np.concatenate(found).astype(np.float64)


def implicit_rewards(session: Session, policy: PyTree, batch: Any) -> Array:
    """log π/π_ref of completions, f32[B, K]: what a policy is best for, in units of its β.

    Args:
        session: its parameters are those of π_ref.
        policy: parameters of the decoder π.
        batch: with actions i32[B, K, T].

    Reference: Rafailov et al. 2023, arXiv 2305.18290, eq. 5.
    """
    logp, ref_logp = (session.logp(params, batch, 1.0) for params in (policy, session.model.params))
    return log_ratio(logp, ref_logp, global_batch(session.mesh, batch.mask))


def quality(examples: Examples, rewards: np.ndarray) -> dict[str, Interval]:
    """How well rewards order the held-out completions.

    Args:
        examples: of a kind in `ORDERED`.
        rewards: f64[N, K] of their held-out side.

    Returns:
        Of pairs and rankings `accuracy`, the share of pairs in order, and `longer_accuracy`,
        that of a reader who likes long responses. Of ratings `spearman` with the scores, and
        `auc` where they are 0 and 1; nothing where they are all the same.
    """
    clusters = prompt_labels(examples)
    if examples.kind.name == "ratings":
        scores = np.array([item.score for item in examples.held_out])
        if np.ptp(scores) == 0:
            return {}
        found = {"spearman": pooled(spearman, rewards[:, 0], scores, clusters)}
        if set(scores) == {0.0, 1.0}:
            found["auc"] = pooled(auc, rewards[:, 0], scores, clusters)
        return found
    lengths = [[len(ids) for ids in completions_of(item)] for item in examples.held_out]
    order, rows = [], []
    for n, own in enumerate(lengths):
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                order.append([[rewards[n, i], rewards[n, j]], [own[i], own[j]]])
                rows.append(n)
    by = np.array(order, np.float64)
    weights = [examples.held_out[n].weight for n in rows]
    return {
        name: pair_accuracy(by[:, column], weights, clusters[rows])
        for column, name in enumerate(("accuracy", "longer_accuracy"))
    }


def audit(examples: Examples, rewards: np.ndarray, *, log_odds: bool) -> dict[str, Any] | None:
    """How sure a reward is of held-out pairs, and how far it goes by length.

    Args:
        examples: pairs; None is returned of others.
        rewards: f64[N, 2] of their held-out side.
        log_odds: whether a difference of two rewards is the log-odds of a preference.

    Returns:
        `calibration`, the expected calibration error, None of other rewards; `length`, a
        `LengthBias` in tokens, None where fewer than two prompts have sides of unequal length.
    """
    if examples.kind.name != "pairs":
        return None
    clusters = prompt_labels(examples)
    length = np.array([[len(ids) for ids in completions_of(x)] for x in examples.held_out])
    uneven = np.unique(clusters[length[:, 0] != length[:, 1]])
    error = calibration_error(*pair_confidence(rewards), clusters) if log_odds else None
    return {
        "calibration": error,
        "length": length_bias(rewards, length, clusters) if len(uneven) > 1 else None,
    }


def spread(examples: Examples, rewards: np.ndarray) -> Interval:
    """Standard deviation over members of the reward of chosen less rejected.

    Args:
        examples: pairs.
        rewards: f64[N, M, 2], of M members for their held-out side.
    """
    ahead = rewards[..., 0] - rewards[..., 1]
    return bootstrap(ahead.std(1), clusters=prompt_labels(examples))


def prompt_labels(examples: Examples) -> np.ndarray:
    """Number of each held-out example's prompt, i64[N]."""
    prompts = [repr(prompt_ids(item)) for item in examples.held_out]
    return np.unique(prompts, return_inverse=True)[1]


def completions_of(item: Any) -> Sequence[list[int]]:
    """The completions of a pair or a ranking, the best first."""
    return getattr(item, "completions", None) or (item.chosen, item.rejected)
