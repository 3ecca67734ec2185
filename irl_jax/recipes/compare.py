"""`irl-jax compare RUN RUN ...`: runs side by side on one page."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.files import read_object
from irl_jax.report.page import figure, flatten, page, section, table, text, write
from irl_jax.report.plots import COLOURS, lines
from irl_jax.report.series import from_rows, smooth, thin
from irl_jax.report.values import closing
from irl_jax.train.run import REMOVE, SHA256, read_rows
from irl_jax.types import InputError

ABOUT = "Runs side by side: metrics overlaid, results, and the settings in which they differ."
BESIDE = ("stage", "step", "time")  # of a row of metrics, what is no metric
FIRST = ("loss", "reward", "accuracy", "kl", "length")  # metrics that are drawn first
WINDOW = 20  # updates over which a curve is smoothed, at most


@dataclass(frozen=True)
class Run:
    """What a run directory holds.

    Attributes:
        name: its label: the directory's name, or as much of the path as tells runs apart.
        config: its settings.
        rows: of metrics.jsonl.
        summary: its results; empty while it is not complete.
    """

    name: str
    config: Mapping[str, Any]
    rows: list[dict[str, Any]]
    summary: Mapping[str, Any]


def compare(args: Sequence[str]) -> None:
    """`irl-jax compare`.

    Raises:
        InputError: fewer than two runs, or a directory that is none.
    """
    parser = argparse.ArgumentParser("irl-jax compare", description=ABOUT)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/compare.html"),
        help="page that is written (default: %(default)s)",
    )  # fmt: skip
    given = parser.parse_args(args)
    if len(given.runs) < 2:
        raise InputError("runs: give two or more directories of runs")
    runs = read_runs(given.runs)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    names = [run.name for run in runs]
    write(given.out, page("Runs compared", sections(runs), subtitle=", ".join(names)))
    tables = {"results": results(runs), "settings": settings(runs)}
    shown = [part for name, rows in tables.items() if rows for part in ({name: names} | rows,)]
    print(closing(*shown, report=given.out))


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in directories, labelled by the shortest ends of their paths that differ.

    Raises:
        InputError: a directory that is no run, or one that is given twice.
    """
    for path in paths:
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: is no run (it has no config.json); give a run's directory")
    whole = [path.resolve().parts for path in paths]
    if len(set(whole)) < len(whole):
        raise InputError("runs: a directory is given twice; give different ones")
    depth = next(
        n for n in range(1, max(map(len, whole)) + 1) if len({p[-n:] for p in whole}) == len(whole)
    )
    return [
        Run(
            "/".join(parts[-depth:]),
            read_object(path / "config.json", REMOVE),
            read_rows(path / "metrics.jsonl"),
            read_object(path / "summary.json", REMOVE) if (path / "summary.json").exists() else {},
        )
        for path, parts in zip(paths, whole, strict=True)
    ]


def sections(runs: Sequence[Run]) -> list[Markup]:
    """What the page shows: results, settings that differ, curves of each stage."""
    tables = {
        "Results": (results(runs), "None of these runs is complete."),
        "Settings": (settings(runs), "All settings are the same."),
    }
    columns = ["", *(run.name for run in runs)]
    stages = dict.fromkeys(row["stage"] for run in runs for row in run.rows)
    return [
        section(title, table(columns, rows) if rows else text(without))
        for title, (rows, without) in tables.items()
    ] + [overlaid(runs, stage) for stage in stages]


def results(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Numbers of the summaries by dotted names, one a run."""
    found = [numbers(run.summary) for run in runs]
    names = dict.fromkeys(name for each in found for name in each)
    return {name: [each.get(name) for each in found] for name in names}


def settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings in which the runs differ, one a run, as JSON."""
    found = [flatten({k: v for k, v in run.config.items() if k != SHA256}) for run in runs]
    names = dict.fromkeys(name for each in found for name in each)
    return {
        name: [json.dumps(each[name]) if name in each else "–" for each in found]
        for name in names
        if len({json.dumps(each.get(name)) for each in found}) > 1
    }


def overlaid(runs: Sequence[Run], stage: str) -> Markup:
    """Metrics of a stage over its updates, those of all runs in one panel each."""
    own = dict(zip((run.name for run in runs), itertools.cycle(COLOURS)))
    names = dict.fromkeys(FIRST) | dict.fromkeys(
        name for run in runs for row in run.rows if row["stage"] == stage for name in row
    )
    panels = {}
    for name in names:
        if name in BESIDE:
            continue
        having = [run for run in runs if any(r["stage"] == stage and name in r for r in run.rows)]
        curves = [
            from_rows(run.rows, name, stage=stage, label=run.name, colour=own[run.name])
            for run in having
        ]
        if curves:
            whose = f" ({curves[0].label})" if len(curves) == 1 else ""  # it has no legend
            panels[f"{name.replace('_', ' ')}{whose}"] = [
                thin(smooth(curve, min(WINDOW, max(1, len(curve.x) // 10)))) for curve in curves
            ]
    plot = figure(lines(panels, x="update"), "Metrics on the batch of each update, smoothed.")
    return section(f"Stage: {stage}", plot)


def numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and intervals of a summary by dotted names.

    Example:
        >>> numbers({"kl": [1.0, 0.5, 1.5], "seconds": {"train": 2.0}, "model": "x"})
        {'kl': [1.0, 0.5, 1.5], 'seconds.train': 2.0}
    """
    number = lambda x: isinstance(x, int | float) and not isinstance(x, bool)
    interval = lambda x: isinstance(x, list) and len(x) == 3 and all(map(number, x))
    return {k: v for k, v in flatten(summary).items() if number(v) or interval(v)}
