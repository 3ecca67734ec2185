"""`irl-jax score --benchmark processbench`: does a process reward model find the first wrong step?

Of each split it reports the share of wrong solutions whose first wrong step was found, the share of
right ones in which none was, and their harmonic mean F1; and the mean of F1 over the splits.

Reference: Zheng et al. 2024, "ProcessBench", arXiv 2412.06559.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.data.benchmarks import objects
from irl_jax.data.lines import names, shown
from irl_jax.data.process_files import PROCESS_FILES, another
from irl_jax.eval.benchmarks import PUBLISHED, first_error, harmonic
from irl_jax.eval.checks import F64
from irl_jax.eval.intervals import Interval, bootstrap
from irl_jax.files import as_json, write_atomic
from irl_jax.models.process_reward_files import describe_process_reward, good_label
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.recipes.published import check_read
from irl_jax.recipes.score_config import PROCESSBENCH, ScoreConfig
from irl_jax.recipes.scorers import required
from irl_jax.recipes.step_scorer import Solution, step_scorer
from irl_jax.report.page import section, table
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.inputs import identities
from irl_jax.train.progress import Progress
from irl_jax.train.run import SHA256, RunDirectory
from irl_jax.types import InputError

SPLITS = {"gsm8k": 400, "math": 1000, "olympiadbench": 1000, "omnimath": 1000}
"""Split -> solutions of the whole benchmark."""

HELD = 5  # one solution of so many chooses a threshold, and is not counted
THRESHOLDS = np.arange(1, 100) / 100
MEASURES = ("error", "correct", "f1")


@dataclass(frozen=True)
class Judged:
    """A line of ProcessBench.

    Attributes:
        solution: what is judged.
        label: the first wrong step, from 0; −1 if there is none.
        split: one of `SPLITS`.
        name: its `id`.
    """

    solution: Solution
    label: int
    split: str
    name: str


def main(config: ScoreConfig) -> None:
    """Scores a file of ProcessBench and reports, goes on with it, or reports what is there."""
    if config.data is None:
        raise InputError("data: no file; give one of Qwen/ProcessBench, --data gsm8k.json")
    model = Path(required(config.model, config.reward))
    good_label(describe_process_reward(model)[1], config.read.label, model)
    check_read(config.read, model)
    if config.read.chat is not None:
        raise InputError("read.chat: a process reward model has its own form; leave it out")
    rows = read(config, config.data)
    inputs = {"data": config.data, "model": model, "read.tokenizer": config.read.tokenizer}
    pinned = {SHA256: identities(inputs)}
    launch(config, partial(experiment, config, model, rows), conclusion, pinned=pinned)


def read(config: ScoreConfig, path: Path) -> list[Judged]:
    """The solutions of a file, or of all files of a directory that end in .json.

    Raises:
        InputError: a line of another benchmark or version; a split without a wrong solution or
            without a right one.
    """
    several = sorted(path.glob("*.json")) if path.is_dir() else []
    rows = [
        judged_of(row, f"{file}:{place}")
        for file in several or [path]
        for place, row in objects(file)
    ]
    if config.limit is not None and config.limit < len(rows):
        drawn = np.random.default_rng([config.seed, 0]).permutation(len(rows))
        rows = [rows[i] for i in sorted(drawn[: config.limit])]
    held = held_of(len(rows), config)
    parts = {name: (~held, {name}) for name in splits_of(rows)}
    if held.any():
        parts["the part that chooses the threshold"] = held, set(SPLITS)
    for name, (inside, splits) in parts.items():
        own = [r for r, here in zip(rows, inside, strict=True) if here and r.split in splits]
        if len({row.label != -1 for row in own}) < 2:
            raise InputError(
                f"{path}: {name}: expected solutions with an error and solutions without one; "
                "give more"
            )
    return rows


def judged_of(row: dict[str, Any], source: str) -> Judged:
    """A line of ProcessBench.

    Raises:
        InputError: it is of another benchmark or version.
    """
    form = PROCESS_FILES[PROCESSBENCH]
    for name in ("id", *form.fields):
        if name not in row:
            what = f"no field `{name}` (fields: {names(row)})"
            raise another(source, what, PROCESSBENCH)
    problem, steps, _ = form.convert(row, source)
    split = str(row["id"]).rpartition("-")[0]
    if split not in SPLITS:
        raise another(source, f"`id` is {shown(row['id'])}", PROCESSBENCH)
    return Judged(Solution(problem, steps, source), row["label"], split, row["id"])


def splits_of(rows: Sequence[Judged]) -> list[str]:
    """The splits that there are, in the publisher's order."""
    return [split for split in SPLITS if any(row.split == split for row in rows)]


def held_of(count: int, config: ScoreConfig) -> np.ndarray:
    """Which solutions choose the threshold, bool[N]; none where it is given."""
    drawn = np.random.default_rng([config.seed, 1]).permutation(count)
    return (drawn % HELD == 0) & (config.threshold is None)


def experiment(
    config: ScoreConfig, model: Path, rows: list[Judged], run: RunDirectory, progress: Progress
) -> None:
    """Scores, measures, reports."""
    clock = Clock(run.path / "seconds.json")

    def score() -> dict[str, np.ndarray]:
        scorer = step_scorer(model, config.read, config.separator, progress)
        return {"steps": np.concatenate(scorer([row.solution for row in rows]))}

    with clock("score"):
        flat = kept(run, "steps", score)["steps"]
    ends = np.cumsum([len(row.solution.steps) for row in rows])
    scores = np.split(flat, ends[:-1])
    with clock("measure"):
        held = held_of(len(rows), config)
        threshold = config.threshold
        if threshold is None:
            some = np.flatnonzero(held)
            threshold = choose([rows[i] for i in some], [scores[i] for i in some])
        counted = np.flatnonzero(~held)
        found = measures([rows[i] for i in counted], [scores[i] for i in counted], threshold)
    lines = "".join(
        json.dumps({"id": r.name, "split": r.split, "label": r.label, "steps": s.tolist()}) + "\n"
        for r, s in zip(rows, scores, strict=True)
    )
    write_atomic(run.path / "scores.jsonl", lines.encode())
    about = {"threshold": threshold, "held_out": int(held.sum()), "solutions": len(counted)}
    published = vars(PUBLISHED[PROCESSBENCH])
    summary = as_json({**about, **found, "published": published, "seconds": clock.seconds})
    report(run, summary)
    run.finish(summary)


def table_of(rows: Sequence[Judged], scores: Sequence[np.ndarray], threshold: float) -> F64:
    """Split, whether there is an error, whether the first one was found; f64[N, 3]."""
    order = list(SPLITS)
    return np.array(
        [
            (order.index(r.split), r.label != -1, first_error(s, threshold) == r.label)
            for r, s in zip(rows, scores, strict=True)
        ],
        np.float64,
    )


def statistic(table: F64, measure: str) -> float:
    """The mean of a measure over the splits that a table of `table_of` holds.

    A split that a resample left without a wrong solution, or without a right one, has 0 for it.
    """
    values = []
    for split in np.unique(table[:, 0]):
        _, wrong, match = table[table[:, 0] == split].T
        shares = [match[wrong == kind].mean() if (wrong == kind).any() else 0.0 for kind in (1, 0)]
        values.append({"error": shares[0], "correct": shares[1], "f1": harmonic(*shares)}[measure])
    return float(np.mean(values))


def choose(rows: Sequence[Judged], scores: Sequence[np.ndarray]) -> float:
    """The threshold with the highest mean of F1, of several the one nearest to 0.5."""
    value = lambda t: statistic(table_of(rows, scores, t), "f1")
    return float(max(THRESHOLDS, key=lambda t: (value(t), -abs(t - 0.5))))


def measures(
    rows: Sequence[Judged], scores: Sequence[np.ndarray], threshold: float
) -> dict[str, Any]:
    """Error accuracy, correct accuracy and F1 of each split, and the mean F1."""
    found = table_of(rows, scores, threshold)
    problems = [row.solution.problem for row in rows]
    number = np.unique(problems, return_inverse=True)[1]

    def interval(which: np.ndarray, measure: str) -> Interval:
        return bootstrap(found[which], partial(statistic, measure=measure), number[which])

    whole = np.ones(len(rows), bool)
    splits = {}
    for split in splits_of(rows):
        which = found[:, 0] == list(SPLITS).index(split)
        splits[split] = {"solutions": int(which.sum())} | {m: interval(which, m) for m in MEASURES}
    return {"splits": splits, "f1": interval(whole, "f1")}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows: dict[str, Any] = {
        f"{split}, {measure}": [found[measure]]
        for split, found in summary["splits"].items()
        for measure in MEASURES
    }
    rows["mean F1 over splits"] = [summary["f1"]]
    rows[f"{summary['published']['model']}, published"] = [summary["published"]["value"]]
    return closing(said_of(summary), rows, report=report)


def said_of(summary: Mapping[str, Any]) -> str:
    """What threshold was taken."""
    chosen = f"chosen on {summary['held_out']} solutions that are not counted"
    how = chosen if summary["held_out"] else "given"
    return f"A step is wrong where its probability is below {summary['threshold']:.3g}, {how}."


def report(run: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Writes report.html."""
    published, splits = summary["published"], summary["splits"]
    rows = {name: [found["solutions"], *(found[m] for m in MEASURES), None]
            for name, found in splits.items()}  # fmt: skip
    rows["mean"] = [summary["solutions"], None, None, summary["f1"], published["value"]]
    missing = [name for name, count in SPLITS.items() if rows.get(name, [0])[0] != count]
    said = [
        said_of(summary),
        "Error: the first wrong step is the one that people found. Correct: no step is wrong. F1 "
        "is their harmonic mean. Intervals resample problems, 95 %.",
        f"The number of {published['model']} is of {published['where']}.",
    ]
    if missing:
        said.append(f"Not the whole benchmark: {', '.join(missing)}.")
    columns = ["split", "solutions", "error", "correct", "F1", published["model"]]
    write_study(
        run,
        summary["seconds"],
        "Does it find the first wrong step?",
        [section("ProcessBench", table(columns, rows), " ".join(said))],
        subtitle=f"Process reward model {run.config['model']}, on {run.config['data']}.",
    )
