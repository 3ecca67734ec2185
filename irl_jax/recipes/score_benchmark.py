"""A benchmark's own numbers of the rewards that `irl-jax score` gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irl_jax.data.benchmarks import BENCHMARKS
from irl_jax.data.evaluation import EvaluationRecord
from irl_jax.eval.benchmarks import PUBLISHED, aggregate, right


def benchmark_measures(
    name: str | None,
    records: Sequence[EvaluationRecord],
    rewards: Sequence[np.ndarray],
    prompt: np.ndarray,
    tied: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """A benchmark's numbers by its publisher's rule, and a published one; None if there is none.

    Args:
        name: of the benchmark, or None.
        records: those that were scored.
        rewards: f64[K] of each.
        prompt: number of each record's prompt.
        tied: of `ties_measures`.
    """
    if name is None:
        return None
    values = [right(name, x, r.chosen, r.scores) for r, x in zip(records, rewards, strict=True)]
    replaced = {tied["subset"]: tied["score"].estimate} if tied else None
    subsets = [record.subset for record in records]
    found = aggregate(name, values, subsets, prompt, replaced=replaced)
    published = PUBLISHED.get(name)
    return {
        **vars(found),
        "title": BENCHMARKS[name].title,
        "place": BENCHMARKS[name].place,
        "whole": BENCHMARKS[name].records,
        "published": vars(published) if published else None,
    }
