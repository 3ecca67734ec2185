"""The report of `irl-jax score`: tables, curves, what each measure says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.losses.table import LOSSES
from irl_jax.recipes.score_judge import judge_rows, judge_section
from irl_jax.report.page import card, cards, figure, note, section, table
from irl_jax.report.plots import against_n, lines
from irl_jax.report.series import Series, curves
from irl_jax.report.study import write_study
from irl_jax.report.values import as_interval, closing
from irl_jax.train.run import RunDirectory

CALIBRATED = [name for name, row in LOSSES.items() if row.log_odds]
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


RIGHT = {
    "score": "score: 0.3, 0.3, 0.2, 0.2 and 0.01 of what follows",
    "tied": "every right answer above every wrong one",
    "reference": "the same of the references, which have one right answer",
    "apart": "margin to the best wrong answer above the spread of right ones",
    "apart_of_both": "the same of the smaller margin of a question and its reference",
    "margin": "tanh of that margin over that spread less 1",
}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows: dict[str, Any] = {}
    several = len(summary["subsets"]) > 1
    if several:
        rows |= {f"{k} ({v['records']})": v["accuracy"] for k, v in summary["subsets"].items()}
    if benchmark := summary.get("benchmark"):
        rows |= {f"{benchmark['title']}, {k}": float(v) for k, v in benchmark["parts"].items()}
        rows[benchmark["title"]] = benchmark["overall"]
        if published := benchmark["published"]:
            rows[f"{published['model']}, published"] = published["value"]
    rows["accuracy, mean over records"] = summary["accuracy"]
    if several:
        rows["accuracy, mean over subsets"] = summary["accuracy_over_subsets"]
    if ties := summary["ties"]:
        rows[f"{ties['subset']}, RewardBench 2"] = ties["score"]
        rows["mean over subsets with it"] = ties["over_subsets"]
    rows["chance"] = summary["chance"]
    if summary["calibration"]:
        rows["calibration error"] = summary["calibration"]["error"]
    if summary["length"]:
        rows["correlation with length"] = summary["length"]["correlation"]
        rows["accuracy without length"] = summary["length"]["accuracy_without"]
    for name, edit in summary["edits"].items():
        if edit["size"]:
            rows[f"{name}: |Δr|, sd of answers"] = edit["size"]
    if summary["scored"]:
        best = summary["scored"]["best_of_n"]
        rows["Spearman within a prompt"] = summary["scored"]["spearman"]
        rows[f"best of {best['n'][-1]}"] = best["gold"][-1]
        rows["a random one"] = best["random"]
    if judge := summary.get("judge"):
        rows |= judge_rows(judge)
    head = f"{summary['records']} records, {summary['prompts']} prompts [95 % over prompts]"
    return closing(head, list(rows.items()), report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    sections = [section("Results", headline(summary)), subsets(summary)]
    if summary["benchmark"]:
        sections.insert(1, of_benchmark(summary["benchmark"], summary["records"]))
    if summary["ties"]:
        sections.append(many_right(summary["ties"]))
    sections.append(section("Calibration", *calibration(summary["calibration"])))
    if summary["judge"]:
        sections.append(judge_section(summary["judge"]))
    if summary["length"]:
        sections.append(length(summary["length"]))
    if summary["edits"]:
        sections.append(edits(summary))
    if summary["scored"]:
        sections.append(best_of_n(summary["scored"]))
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
    random = f"of {summary['records']} records; a random reward has {summary['chance']:.3g}"
    shown = [card("Accuracy", summary["accuracy"], random, baseline=summary["chance"])]
    if summary["calibration"]:
        shown.append(card("Calibration error", summary["calibration"]["error"], "0 is calibrated"))
    if summary["length"]:
        excess = (
            "pairs in which the longer has the higher reward, less those in which people chose "
            "the longer"
        )
        shown.append(card("Excess liking of length", summary["length"]["excess"], excess))
    moved = {name: edit["size"] for name, edit in summary["edits"].items() if edit["size"]}
    if moved:
        worst = max(moved, key=lambda name: moved[name][0])
        unit = "|Δr| in standard deviations between answers to one prompt"
        shown.append(card(f"Largest effect of an edit: {worst}", moved[worst], unit))
    return cards(*shown)


def subsets(summary: dict[str, Any]) -> Markup:
    """The table of subsets."""
    rows = {
        name: [row["records"], row["accuracy"], row["chance"]]
        for name, row in summary["subsets"].items()
    }
    if len(rows) > 1:
        rows["mean over subsets"] = [len(rows), summary["accuracy_over_subsets"], None]
        rows["mean over records"] = [summary[k] for k in ("records", "accuracy", "chance")]
    return section(
        "Subsets",
        table(["subset", "records", "accuracy", "chance"], rows),
        "A record is right where every chosen response has a higher reward than every rejected "
        "one; ties are broken at random. A record of responses with scores counts the share of "
        f"its pairs in the right order. Over all {summary['pairs']} single pairs the accuracy is "
        f"{as_interval(summary['pair_accuracy'])}. Intervals resample prompts, 95 %. A subset of "
        "one prompt says nothing.",
    )


def of_benchmark(found: dict[str, Any], records: int) -> Markup:
    """The table of a benchmark's own aggregate."""
    rows: list[list[Any]] = [[name, value, None] for name, value in found["parts"].items()]
    published = found["published"]
    rows.append(["overall", found["overall"], published and published["value"]])
    model = published["model"] if published else "a known model"
    said = [f"By the rule of the publisher of {found['place']}."]
    if published:
        said.append(f"The number of {model} is of {published['where']}.")
    else:
        said.append("No published number was found whose source could be named.")
    if found["missing"]:
        said.append(f"Not the whole benchmark: no record of {', '.join(found['missing'])}.")
    elif found["whole"] and records != found["whole"]:
        said.append(f"{records} records; the whole benchmark has {found['whole']}.")
    return section(found["title"], table(["part", "this reward", model], rows), " ".join(said))


def many_right(found: dict[str, Any]) -> Markup:
    """The table of RewardBench 2's measure of ties."""
    return section(
        "Many right answers",
        table(
            [f"subset {found['subset']}", "mean over questions"],
            [[words, found[name]] for name, words in RIGHT.items()],
        ),
        "RewardBench 2 reports the mean over subsets with this score in its place: "
        f"{found['over_subsets']:.3f}. The interval resamples questions, 95 %.",
    )


def calibration(found: dict[str, Any] | None) -> list[Markup | str]:
    """The reliability diagram."""
    if found is None:
        return [
            "There is nothing to calibrate: a difference of these rewards is not the log-odds of a "
            "preference. It is for a judge's of pairs, and for rewards learned by "
            f"{', '.join(CALIBRATED)}."
        ]
    bins = {name: np.array(values) for name, values in found["bins"].items()}
    drawn = [
        Series("pairs", bins["confidence"], bins["accuracy"]),
        Series("calibrated", bins["confidence"], bins["confidence"], reference=True),
    ]
    rows = list(zip(*found["bins"].values(), strict=True))
    return [
        figure(
            lines({"share of pairs in the right order": drawn}, x="confidence σ(|Δr|)"),
            "Below the dashed line the reward is surer than it is right.",
            table(list(bins), rows),
        ),
        f"The expected calibration error is {as_interval(found['error'])}. For a calibrated reward "
        "it is above 0 too, by about the square root of bins / pairs.",
    ]


def length(found: dict[str, Any]) -> Markup:
    """The table of length bias."""
    return section(
        "Length",
        table(
            ["over pairs, length in characters", ""],
            [[words, found[name]] for name, words in LENGTH.items()],
        ),
        "A reward may prefer longer responses because people do. The excess, and the accuracy "
        "without length, show what is left.",
    )


def edits(summary: dict[str, Any]) -> Markup:
    """The table of edits."""
    measures = ("changed", "size", "shift", "flipped")
    rows = {name: [row[k] for k in measures] for name, row in summary["edits"].items()}
    return section(
        "Edits that keep the meaning",
        table(["edit", "responses changed", "mean |Δr|", "mean Δr", "orders flipped"], rows),
        f"Both sides of {summary['edited_pairs']} pairs were edited. Δr is in standard deviations "
        "of the reward between responses to one prompt: an edit of 1 moves it as far as another "
        "answer. Where the mean Δr is above 0, a policy can earn reward by formatting.",
    )


def best_of_n(found: dict[str, Any]) -> Markup:
    """The curve of best-of-n."""
    best = found["best_of_n"]
    named = {"this reward": best["gold"], "the scores themselves": best["oracle"]}
    drawn = curves(named, best["n"], reference=["the scores themselves"])
    rows = zip(*(best[k] for k in ("n", "gold", "oracle", "kl", "gain")), strict=True)
    return section(
        "Best of n",
        table(["", "within a prompt"], [[k, found[k.lower()]] for k in ("Spearman", "Kendall")]),
        figure(
            against_n({"mean score of the response chosen": drawn}),
            f"Of {found['records']} prompts with {found['responses']} responses each.",
            table(["n", "this reward", "the scores", "KL at most, nats", "share of gain"],
                  list(rows)),
        ),
        note("At n = 1 both choose at random."),
    )  # fmt: skip
