"""What the study of guided decoding leaves: its closing lines and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.report.page import card, cards, figure, section, table
from irl_jax.report.plots import against_kl, against_n
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

BLOCKS, BEST = "blockwise, CD-FUDGE", "best-of-n"
MEASURES = ("gold", "proxy", "kl", "tokens")


def against_best(
    settings: Mapping[str, Sequence[str]],
    ns: Sequence[int],
    by_seed: Sequence[Mapping[str, Sequence[Mapping[str, float]]]],
) -> list[dict[str, Any]]:
    """Every setting of every method, less the best-of-n that reads at least as many tokens.

    `chosen` marks the setting of a method that the learned reward likes best, which is all that
    one has to go by. `p` is of the difference, by Holm's procedure for all settings.

    Args:
        settings: method -> its settings.
        ns: of best-of-n, increasing.
        by_seed: of each world, method -> a point of MEASURES a setting.
    """
    pick = lambda name, i, measure: np.array([world[name][i][measure] for world in by_seed])
    rows, differences = [], {}
    for name in by_seed[0]:
        if name == BEST:
            continue
        proxy = [pick(name, i, "proxy").mean() for i in range(len(by_seed[0][name]))]
        for i, setting in enumerate(settings[name]):
            read = by_seed[0][name][i]["tokens"]
            enough = [j for j, n in enumerate(ns) if 2 * n >= read] or [len(ns) - 1]
            difference = pick(name, i, "gold") - pick(BEST, enough[0], "gold")
            differences[f"{name}, {setting}"] = difference
            rows.append(
                {
                    "method": name,
                    "setting": setting,
                    "n": ns[enough[0]],
                    "chosen": i == int(np.argmax(proxy)),
                    "gold": t_interval(difference),
                }
            )
    p = adjusted(differences).values()
    return [row | {"p": own} for row, own in zip(rows, p, strict=True)]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    reached = [
        [name, point["setting"], point["gold"], point["kl"]]
        for name, points in summary["points"].items()
        for point in points
    ]
    against = [
        [row["method"], row["setting"], f"best-of-{row['n']}", row["gold"], f"p {row['p']:.2g}"]
        for row in summary["against_best_of_n"]
    ]
    return closing(
        "gold reward, standard deviations of the policy's, and KL, nats [95 % interval]",
        reached,
        "gold reward less that of the best-of-n that reads as many tokens; p by Holm",
        against,
        report=report,
    )


def drawn(summary: dict[str, Any], x: str, names: Sequence[str]) -> dict[str, list[Series]]:
    """Gold over another measure, a curve for each method."""
    of = {name: summary["points"][name] for name in names}
    reached = [
        from_intervals(name, [p[x][0] for p in points], [p["gold"] for p in points],
                       reference=name == BEST)
        for name, points in of.items()
    ]  # fmt: skip
    return {"gold reward": reached}


def results(summary: dict[str, Any]) -> Markup:
    """Differences at equal compute, and gold over KL and over compute."""
    headline = [
        card(f"{row['method']}, {row['setting']}", row["gold"],
             f"gold reward against best-of-{row['n']}, which reads as many tokens or more; "
             f"p {row['p']:.2g} after Holm's correction", form="+.2f")
        for row in summary["against_best_of_n"]
        if row["chosen"]
    ]  # fmt: skip
    over_kl = against_kl(drawn(summary, "kl", list(summary["points"])))
    over_tokens = against_n(
        drawn(summary, "tokens", [BEST, BLOCKS]), x="tokens read for each token written"
    )
    return section(
        "Results",
        cards(*headline),
        f"{means_over(len(summary['by_seed']), 'world')} Each world has its own policy, taste and "
        "reward model. Gold reward is in standard deviations of the policy's own completions, "
        "whose mean is 0. The cards show, of each method, the setting that its learned reward "
        "likes best.",
        figure(
            over_kl,
            "Higher and further left is better: more gold reward for the same distance from the "
            "policy. KL is estimated from log-probs of the guided sampler. For best-of-n it is "
            "estimated from the selected completions, for blocks it is an upper bound.",
        ),
        figure(
            over_tokens,
            "Gold reward against compute, of the two methods that get stronger by more compute. "
            "Tokenwise methods read the same number of tokens at any strength, see the table.",
        ),
    )


def settings_section(summary: dict[str, Any]) -> Markup:
    """Every setting, alone and against best-of-n."""
    rows = [
        [name, point["setting"], *(point[m] for m in ("gold", "proxy", "kl")), point["tokens"][0]]
        for name, points in summary["points"].items()
        for point in points
    ]
    columns = {
        "method": "method",
        "setting": "setting",
        "less": lambda row: f"best-of-{row['n']}",
        "gold reward": "gold",
        "p": "p",
    }
    return section(
        "All settings",
        table(["method", "setting", "gold reward", "learned reward", "KL, nats", "tokens read"],
              rows),
        "Tokens read are those that the policy and the reward model or value function read "
        "together for each token written, if each keeps a cache. All are decoders of one size. "
        "Prompts are not counted.",
        table(columns, summary["against_best_of_n"]),
        "Gold reward less that of the best-of-n that reads at least as many tokens. Differences "
        "are paired by world. p is corrected by Holm's procedure for all rows.",
    )  # fmt: skip


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: differences at equal compute, two figures, the table."""
    write_study(
        run,
        summary["seconds"],
        "Steering a frozen policy while it writes",
        [results(summary), settings_section(summary)],
        subtitle="A reward model learned from noisy comparisons steers the policy in four ways.",
    )
