"""The report of `experiments.demonstration_rewards`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.eval.best_of_n import powers_of_two
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

LOGISTIC, PREFERENCES = "logistic (AfD)", "comparisons of samples"


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows = {name: [m["spearman"], m["gain"]] for name, m in summary["results"].items()}
    head = "held-out prompts, mean over splits [95 % interval]: rank correlation, gain"
    return closing(head, rows, report=report)


def results(summary: dict[str, Any], config: dict[str, Any]) -> Markup:
    """The table of objectives."""
    found, against, n = summary["results"], summary["against_logistic"], config["n"]
    rows = {
        name: [*measures.values(), against[name]["gain"] if name in against else None]
        for name, measures in found.items()
    }
    columns = ["reward", "rank correlation", "pairs in order", f"gain of best-of-{n}",
               "gain against logistic"]  # fmt: skip
    return section(
        "Results",
        cards(
            card("Rank correlation with gold, logistic", found[LOGISTIC]["spearman"],
                 "among the responses to a held-out prompt; chance is 0", form=".3f"),
            card(f"Gain of best-of-{n}, logistic", found[LOGISTIC]["gain"],
                 f"gold reward; gold itself gains {summary['oracle_gain'][0]:.3f}", form=".3f"),
            card(f"Gain of best-of-{n}, comparisons", found[PREFERENCES]["gain"],
                 f"as many comparisons as demonstrations, {config['demonstrations']} a prompt",
                 form=".3f"),
        ),
        table(columns, rows),
        f"{summary['held_out']} of {summary['prompts']} prompts are held out of each of "
        f"{config['seeds']} splits. Intervals of 95 % are over splits, which share prompts. "
        f"Differences are paired by split. The mean gold reward of demonstrations is "
        f"{np.mean(summary['gold_demonstrations']):.3f}, of own samples "
        f"{np.mean(summary['gold_own']):.3f}.",
        UNCORRECTED,
    )  # fmt: skip


def both_curves(summary: dict[str, Any], completions: int) -> Markup:
    """Best-of-n, and rank correlation over labels."""
    ns = powers_of_two(completions)
    by_labels = {name: values["spearman"] for name, values in summary["by_labels"].items()}
    gold = curves(summary["best_of_n"], ns, reference=["gold itself"])
    rank = curves(by_labels, summary["labels"])
    return section(
        "Curves",
        figures(
            figure(
                against_n({"gold reward": gold}),
                "Gold reward of the best of n responses by each reward, held-out prompts.",
            ),
            figure(
                against_n({"rank correlation": rank}, x="labels a training prompt"),
                "Rank correlation on held-out prompts. A label is a demonstration, chosen among "
                f"{completions} responses, or a comparison of two.",
            ),
        ),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: the table of objectives, and two curves."""
    completions = run.config["answers"]["completions"]
    write_study(
        run,
        summary["seconds"],
        "Rewards from demonstrations",
        [results(summary, run.config), both_curves(summary, completions)],
        subtitle="A reward tells demonstrations from the model's own samples, by the model's "
        "hidden states.",
    )
