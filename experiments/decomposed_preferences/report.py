"""The report of `experiments.decomposed_preferences`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.decomposed_preferences.adaptation import (
    ANNOTATORS,
    MIXTURE,
    PCA,
    REFERENCES,
    SCRATCH,
    SOFTMAX,
)
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

COMPARED = (PCA, SOFTMAX, ANNOTATORS, MIXTURE, SCRATCH)
TELLING = (("main axes", PCA), ("unrelated", PCA), ("unrelated", ANNOTATORS), ("types", MIXTURE))


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows = [["", "", *summary["adaptation"]]]
    for world, methods in summary["accuracy"].items():
        rows += [[world, name, *(v[0] for v in values)] for name, values in methods.items()]
    head = "held-out accuracy, mean over seeds, after n comparisons of a new annotator"
    return closing(head, rows, report=report)


def short(method: str) -> str:
    """A method without how its weights are found, where that is by MAP."""
    return method.removesuffix(", MAP weights")


def results(summary: dict[str, Any], seeds: int) -> Markup:
    """What each method gains over the population reward."""
    at = min(2, len(summary["adaptation"]) - 1)
    gain = {
        world: {method: values[at] for method, values in methods.items()}
        for world, methods in summary["against_population"].items()
    }
    seen = f"accuracy above the population reward after {summary['adaptation'][at]} comparisons"
    heads = [
        card(f"{world}: {short(method)}", gain[world][method], seen, form="+.3f",
             tone="good" if gain[world][method][1] > 0 else "plain")
        for world, method in TELLING
    ]  # fmt: skip
    return section(
        "Results",
        cards(*heads),
        f"The table shows {seen}:",
        table(
            ["population", *map(short, COMPARED)],
            {world: [values[m] for m in COMPARED] for world, values in gain.items()},
        ),
        f"{means_over(seeds, 'population')} Reward models learn from some annotators. A new "
        "annotator gives a few comparisons and is then tested on others. Labels are noisy: the "
        "last line of each table shows how often the true weights themselves are right.",
        UNCORRECTED,
        "Flipping a label leaves the second moment of the comparisons as it is. So their "
        "principal directions are those of the features, and serve where people differ along "
        "the axes of large variance. Directions of annotators' means use who compared what, and "
        "do not need that.",
    )


def world_section(world: str, summary: dict[str, Any]) -> Markup:
    """Accuracy over comparisons, and recovery of the attributes, in one world."""
    counts, seen = summary["adaptation"], summary["comparisons"]
    score, cosine = summary["accuracy"][world], summary["cosine"][world]
    share = {short(basis): values for basis, values in summary["share"][world].items()}
    accuracy_curves = curves(score, counts, reference=REFERENCES)
    about = summary["about"][world]
    return section(
        world.capitalize(),
        f"{about[0].upper()}{about[1:]}.",
        figures(
            figure(
                lines({"held-out accuracy": accuracy_curves}, x="comparisons of the new annotator"),
                "Share of a new annotator's other comparisons that are ordered right.",
            ),
            figure(
                lines({"share of the attributes": curves(share, seen)}, x="comparisons seen"),
                "Variance of the true attributes that the directions explain.",
            ),
        ),
        table(["method", *(f"{n} comparisons" for n in counts)], score),
        table(
            ["directions", "share of the attributes", "cosine, direction to attribute"],
            {short(basis): [share[short(basis)][-1], v[-1]] for basis, v in cosine.items()},
        ),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: a section for each world."""
    worlds = [world_section(world, summary) for world in summary["accuracy"]]
    write_study(
        run,
        summary["seconds"],
        "Directions of preference for new annotators",
        [results(summary, run.config["seeds"]), *worlds],
        subtitle="Accuracy on a new annotator's comparisons, by how many were seen.",
    )
