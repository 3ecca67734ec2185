"""The report of `experiments.hh_rlhf_embedding`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import UNCORRECTED, card, cards, section, table
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    head = "held-out accuracy, mean over splits [95 % interval over splits]"
    return closing(head, list(summary["accuracy"].items()), report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: the table of losses and embeddings."""
    accuracy, against = summary["accuracy"], summary["against_first"]
    best = max(accuracy, key=lambda name: accuracy[name][0])
    rows = [[*name.split(" / "), value, against.get(name)] for name, value in accuracy.items()]
    columns = ["embedding", "loss or head", "held-out accuracy", "against Bradley-Terry"]
    results = section(
        "Results",
        cards(
            card(f"Best: {best}", accuracy[best],
                 "held-out pairs ordered as people ordered them; chance is 0.5", form=".1%",
                 baseline=0.5)
        ),
        table(columns, rows),
        f"{summary['pairs']} pairs of {summary['dialogues']} dialogues are split by dialogue. "
        f"Figures are means over {len(next(iter(summary['by_seed'].values())))} random splits, "
        "with 95 % intervals. Splits share dialogues: an interval says how much a result depends "
        "on the split, not on the people asked. Differences are paired by split.",
        UNCORRECTED,
    )  # fmt: skip
    write_study(
        run,
        summary["seconds"],
        "Harmlessness from human comparisons",
        [results],
        subtitle="Reward models on fixed embeddings learn from crowd workers' comparisons.",
    )
