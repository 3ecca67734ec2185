"""The report of `experiments.dense_rewards`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import figure, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

DENSE, LIKELIHOOD = "log π_SFT − log π_ref", "log π_SFT alone"
TOKENS = "tokens in order"  # Spearman's correlation of token rewards with what each token earned


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows: dict[str, list[Any]] = {"demonstrations": summary["demonstrations"]}
    for name, methods in summary["measures"].items():
        rows |= {f"{name}, {method}": values for method, values in methods.items()}
    for method, values in summary["against"].items():
        rows[f"{DENSE} less {method}"] = values
        p = summary["corrected"][method]
        rows[f"  after Holm's correction, {method}"] = [f"p {value:.2g}" for value in p]
    return closing(rows | {TOKENS: summary[TOKENS]}, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: curves over the number of demonstrations, and the tables."""
    counts = summary["demonstrations"]
    heads = [str(n) for n in counts]
    parts: list[Any] = []
    for name, methods in summary["measures"].items():
        drawn = lines({name: curves(methods, counts)}, x="demonstrations")
        parts += [
            figure(drawn, f"Held-out completions: {name}."),
            table(["reward", *heads], methods),
        ]
    results = section(
        "Results",
        f"{means_over(run.config['seeds'], 'world')} Demonstrations are the best of "
        f"{run.config['best_of']} completions by gold. A comparison is of the best with the worst "
        "of the same completions.",
        *parts,
        "Rank correlation of the dense reward's sum, less that of each other reward:",
        table(["less", *heads], summary["against"]),
        "p of these differences after Holm's correction for their number. Those at most 0.05 are "
        "sure, all of them together.",
        table(["less", *heads], summary["corrected"]),
        "Rank correlation of the dense reward of a token with what it adds to gold, within a "
        "completion. Potential-based shaping may move reward between tokens, so even the true "
        "reward's policy need not reach 1.",
        table(["", *heads], {TOKENS: summary[TOKENS]}),
    )
    title = "The reward inside a fine-tuned model"
    write_study(run, summary["seconds"], title, [results])
