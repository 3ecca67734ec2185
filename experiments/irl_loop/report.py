"""The report of `experiments.irl_loop`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

POLICY = {"gold": "gold", "kl": "KL, nats", "entropy": "−log π, nats"}
REWARD = {"fresh": "fresh prompts", "own": "demonstrated prompts"}


def rows_of(summary: dict[str, Any], fields: dict[str, str], *more: str) -> list[list[Any]]:
    """Method, demonstrations and fields of every row."""
    return [
        [r["method"], r["demonstrations"], *(r[k] for k in fields), *(r.get(k, "") for k in more)]
        for r in summary["rows"]
    ]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    head = ["", "demonstrations"]
    last = summary["hard_updates"][-1]
    hard = [[h["method"], h["gold"][-1], h["best_less_last"]] for h in summary["hard"]]
    return closing(
        f"{summary['worlds']} worlds; gold in standard deviations of the reference's [95 %]",
        [
            [*head, *POLICY.values(), f"gold less {summary['base']}"],
            *rows_of(summary, POLICY, "less_base"),
        ],
        {"gold of the demonstrations": summary["expert"]},
        "rank correlation of the recovered reward with gold",
        [[*head, *REWARD.values()], *rows_of(summary, REWARD)],
        f"a policy that optimises the recovered reward, after {last} updates",
        [["", "gold", "its best along the way, less the last"], *hard],
        report=report,
    )


def drawn(summary: dict[str, Any], field: str, about: str) -> list[Markup]:
    """A figure for each number of demonstrations."""
    found = []
    for count in summary["demonstrations"]:
        rows = {r["method"]: r[field] for r in summary["rows"] if r["demonstrations"] == count}
        caption = f"{about}, {count} demonstrations."
        found.append(figure(intervals(rows, x=f"{about}, {count}"), caption))
    return found


def policies(summary: dict[str, Any]) -> Markup:
    """What the policies are worth."""
    counts = summary["demonstrations"]
    corrected = {
        name: [p.get(name) for p in summary["corrected"]] for name in summary["corrected"][0]
    }
    less = f"gold less {summary['base']}"
    return section(
        "Policies",
        "Gold is in standard deviations of the reference's; the demonstrations have "
        f"{summary['expert'][0]:.2f}. Intervals are 95 % over worlds.",
        figures(*drawn(summary, "gold", "gold of the policy")),
        table(
            ["method", "demonstrations", *POLICY.values(), less],
            rows_of(summary, POLICY, "less_base"),
        ),
        CORRECTED,
        table([f"p, {less}", *(f"{n} demonstrations" for n in counts)], corrected),
    )


def recovered(summary: dict[str, Any]) -> Markup:
    """How the recovered rewards order what gold orders."""
    return section(
        "Recovered rewards",
        "Rank correlations with gold are within a prompt, of the reference's completions.",
        figures(*drawn(summary, "fresh", "rank correlation, fresh prompts")),
        table(["method", "demonstrations", *REWARD.values()], rows_of(summary, REWARD)),
    )


def optimised(summary: dict[str, Any]) -> Markup:
    """What becomes of gold where a recovered reward is optimised."""
    first, last = summary["hard_updates"][0], summary["hard_updates"][-1]
    ends = {h["method"]: h["gold"][-1] for h in summary["hard"]}
    rows = [
        [h["method"], h["gold"][0], h["gold"][-1], h["best_less_last"], h["kl"][-1]]
        for h in summary["hard"]
    ]
    head = ["reward of", f"gold after {first}", f"after {last}", "best less last", "KL, nats"]
    return section(
        "Optimised hard",
        "A policy that begins as the reference optimises the reward that was recovered from the "
        f"most demonstrations for {last} updates, without a pull to the reference.",
        figure(intervals(ends, x=f"gold after {last} updates"), "Gold at the end."),
        table(head, rows),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: policies and recovered rewards by number of demonstrations."""
    write_study(
        run,
        summary["seconds"],
        "Inverse RL by turns",
        [policies(summary), recovered(summary), optimised(summary)],
        subtitle="Policies and rewards from the same demonstrations, at equal updates.",
    )
