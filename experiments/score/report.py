"""The report of `experiments.score`: tables, curves, what each measure says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import card, cards, figure, note, section, table
from irl_jax.report.plots import against_n, lines
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

LENGTH = {
    "correlation": "correlation of reward and length within a prompt",
    "explained": "share of the reward's variance within a prompt that length explains",
    "prefers_longer": "the longer response has the higher reward",
    "chosen_longer": "the longer response was chosen",
    "excess": "the first of these two less the second",
    "accuracy_longer": "accuracy where the chosen response is the longer",
    "accuracy_shorter": "accuracy where it is the shorter",
    "accuracy_without": "accuracy once what length explains is taken off",
}


def interval(value: list[float] | None) -> Interval | None:
    """An interval as a summary holds it."""
    return None if value is None else Interval(*value)


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    row = lambda name, value: f"  {name:<40}{value}"
    out = ["", f"{summary['records']} records, {summary['prompts']} prompts [95 % over prompts]"]
    for name, subset in summary["subsets"].items():
        if len(summary["subsets"]) > 1:
            out.append(row(f"{name} ({subset['records']})", interval(subset["accuracy"])))
    out.append(row("accuracy, mean over records", interval(summary["accuracy"])))
    if len(summary["subsets"]) > 1:
        out.append(row("accuracy, mean over subsets", interval(summary["accuracy_over_subsets"])))
    if summary["ties"]:
        out.append(
            row(f"{summary['ties']['subset']}, RewardBench 2", interval(summary["ties"]["score"]))
        )
        out.append(row("mean over subsets with it", f"{summary['ties']['over_subsets']:.3f}"))
    out.append(row("chance", f"{summary['chance']:.3f}"))
    if summary["calibration"]:
        out.append(row("calibration error", interval(summary["calibration"]["error"])))
    if summary["length"]:
        out.append(row("correlation with length", interval(summary["length"]["correlation"])))
        out.append(row("accuracy without length", interval(summary["length"]["accuracy_without"])))
    for name, edit in summary["edits"].items():
        if edit["size"]:
            out.append(row(f"{name}: |Δr|, sd of answers", interval(edit["size"])))
    if summary["scored"]:
        out.append(row("Spearman within a prompt", interval(summary["scored"]["spearman"])))
        best = summary["scored"]["best_of_n"]
        out.append(row(f"best of {best['n'][-1]}", interval(best["gold"][-1])))
        out.append(row("a random one", interval(best["random"])))
    return "\n".join([*out, row("report", report)])


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    sections = [section("Results", headline(summary)), section("Subsets", *subsets(summary))]
    if summary["ties"]:
        sections.append(section("Many right answers", *many_right(summary["ties"])))
    sections.append(section("Calibration", *calibration(summary["calibration"])))
    if summary["length"]:
        sections.append(section("Length", *length(summary["length"])))
    if summary["edits"]:
        sections.append(section("Edits that keep the meaning", *edits(summary)))
    if summary["scored"]:
        sections.append(section("Best of n", *best_of_n(summary["scored"])))
    model = run.config["model"]
    write_study(
        run,
        summary["seconds"],
        "How good is a reward?",
        sections,
        subtitle=f"{run.config['reward']} reward{f' of {model}' if model else ''}, on "
        f"{summary['responses']} responses of {run.config['data']}.",
    )


def headline(summary: dict[str, Any]) -> Markup:
    """The numbers to look at first."""
    accuracy = interval(summary["accuracy"])
    shown = [
        card(
            "Accuracy",
            accuracy,
            f"of {summary['records']} records; a random reward has {summary['chance']:.3g}",
            interval=accuracy,
            baseline=summary["chance"],
        )
    ]
    if summary["calibration"]:
        error = interval(summary["calibration"]["error"])
        shown.append(card("Calibration error", error, "0 is calibrated", interval=error))
    if summary["length"]:
        excess = interval(summary["length"]["excess"])
        shown.append(
            card(
                "Excess liking of length",
                excess,
                "pairs in which the longer has the higher reward, less those in which people "
                "chose the longer",
                interval=excess,
            )
        )
    moved = {k: interval(v["size"]) for k, v in summary["edits"].items() if v["size"]}
    if moved:
        worst = max(moved, key=lambda name: moved[name].estimate)  # type: ignore[union-attr]
        shown.append(
            card(
                f"Largest effect of an edit: {worst}",
                moved[worst],
                "|Δr| in standard deviations between answers to one prompt",
                interval=moved[worst],
            )
        )
    return cards(*shown)


def subsets(summary: dict[str, Any]) -> list[Markup | str]:
    """The table of subsets."""
    rows = [
        [name, row["records"], interval(row["accuracy"]), row["chance"]]
        for name, row in summary["subsets"].items()
    ]
    if len(rows) > 1:
        over = interval(summary["accuracy_over_subsets"])
        rows.append(["mean over subsets", len(rows), over, None])
        rows.append(
            [
                "mean over records",
                summary["records"],
                interval(summary["accuracy"]),
                summary["chance"],
            ]
        )
    return [
        table(["subset", "records", "accuracy", "chance"], rows),
        "A record is right where every chosen response has a higher reward than every rejected "
        "one (ties are broken at random); of responses with scores, it counts the share of their "
        f"pairs in the right order. Over all {summary['pairs']} single pairs the accuracy is "
        f"{interval(summary['pair_accuracy'])}. Intervals resample prompts, 95 %; a subset of "
        "one prompt says nothing.",
    ]


def many_right(found: dict[str, Any]) -> list[Markup | str]:
    """The table of RewardBench 2's measure of ties."""
    rows = [
        ["score: 0.3, 0.3, 0.2, 0.2 and 0.01 of what follows", interval(found["score"])],
        ["every right answer above every wrong one", found["tied"]],
        ["the same of the references, which have one right answer", found["reference"]],
        ["margin to the best wrong answer above the spread of right ones", found["apart"]],
        ["the same of the smaller margin of a question and its reference", found["apart_of_both"]],
        ["tanh of that margin over that spread less 1", found["margin"]],
    ]
    return [
        table([f"subset {found['subset']}", "mean over questions"], rows),
        f"With this score in its place the mean over subsets is {found['over_subsets']:.3f}, as "
        "RewardBench 2 reports it. The interval resamples questions, 95 %.",
    ]


def calibration(found: dict[str, Any] | None) -> list[Markup | str]:
    """The reliability diagram."""
    if found is None:
        return [
            "This reward is in no unit of probability, so that there is nothing to calibrate: "
            "only a reward learned by a Bradley-Terry likelihood is in logits."
        ]
    bins = {name: np.array(values) for name, values in found["bins"].items()}
    curves = [
        Series("pairs", bins["confidence"], bins["accuracy"]),
        Series("calibrated", bins["confidence"], bins["confidence"], reference=True),
    ]
    rows = [list(row) for row in zip(*(bins[k].tolist() for k in bins), strict=True)]
    return [
        figure(
            lines({"share of pairs in the right order": curves}, x="confidence σ(|Δr|)"),
            "Below the dashed line the reward is surer than it is right.",
            table(list(bins), rows),
        ),
        f"Expected calibration error {interval(found['error'])}. It is above 0 for a calibrated "
        "reward too, by about the square root of bins / pairs.",
    ]


def length(found: dict[str, Any]) -> list[Markup | str]:
    """The table of length bias."""
    rows = [[text, interval(found[name])] for name, text in LENGTH.items()]
    return [
        table(["over pairs, length in characters", ""], rows),
        "A reward may prefer longer responses because people do: the excess, and the accuracy "
        "without length, say what is left.",
    ]


def edits(summary: dict[str, Any]) -> list[Markup | str]:
    """The table of edits."""
    rows = [
        [name, row["changed"], *(interval(row[k]) for k in ("size", "shift", "flipped"))]
        for name, row in summary["edits"].items()
    ]
    return [
        table(["edit", "responses changed", "mean |Δr|", "mean Δr", "orders flipped"], rows),
        f"Of {summary['edited_pairs']} pairs, both sides edited. Δr is in standard deviations of "
        "the reward between responses to one prompt: an edit of 1 moves it as far as another "
        "answer. A mean Δr above 0 is a reward that a policy can earn by formatting.",
    ]


def best_of_n(found: dict[str, Any]) -> list[Markup | str]:
    """The curve of best-of-n."""
    best = found["best_of_n"]
    curves = [
        from_intervals("this reward", best["n"], [Interval(*v) for v in best["gold"]]),
        from_intervals(
            "the scores themselves",
            best["n"],
            [Interval(*v) for v in best["oracle"]],
            reference=True,
        ),
    ]
    rows = [
        [n, Interval(*g), Interval(*o), kl, gain]
        for n, g, o, kl, gain in zip(
            best["n"], best["gold"], best["oracle"], best["kl"], best["gain"], strict=True
        )
    ]
    return [
        table(
            ["", "within a prompt"],
            [[k, interval(found[k.lower()])] for k in ("Spearman", "Kendall")],
        ),
        figure(
            against_n({"mean score of the response chosen": curves}),
            f"Of {found['records']} prompts with {found['responses']} responses each.",
            table(["n", "this reward", "the scores", "KL at most, nats", "share of gain"], rows),
        ),
        note("At n = 1 both choose at random."),
    ]
