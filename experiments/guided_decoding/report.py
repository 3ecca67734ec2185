"""What the study of guided decoding leaves: its closing lines and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.eval.intervals import Interval, adjusted, t_interval
from irl_jax.report.page import card, cards, figure, section, table
from irl_jax.report.plots import against_kl, against_n
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
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
    lines = ["", "gold reward, standard deviations of the policy's, and KL, nats [95 % interval]"]
    for name, points in summary["points"].items():
        for point in points:
            reward, kl = (Interval(*point[m]) for m in ("gold", "kl"))
            lines.append(f"  {name:24}{point['setting']:10}{reward!s:26}{kl}")
    lines += ["", "gold reward less that of the best-of-n that reads as many tokens; p by Holm"]
    for row in summary["against_best_of_n"]:
        other = f"best-of-{row['n']}"
        lines.append(
            f"  {row['method']:24}{row['setting']:10}{other:14}"
            f"{Interval(*row['gold'])!s:26}p {row['p']:.2g}"
        )
    lines.append(f"report  {report}")
    return "\n".join(lines)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: differences at equal compute, two figures, the table."""
    read = lambda point: {m: Interval(*point[m]) for m in MEASURES}
    points = {name: [read(p) for p in found] for name, found in summary["points"].items()}

    def curves(x: str, names: list[str]) -> list[Series]:
        column = lambda name, f: np.array([f(p) for p in points[name]])
        return [
            Series(
                name,
                column(name, lambda p: p[x].estimate),
                column(name, lambda p: p["gold"].estimate),
                column(name, lambda p: p["gold"].low),
                column(name, lambda p: p["gold"].high),
                reference=name == BEST,
            )
            for name in names
        ]

    compute = [
        [
            *(row["method"], row["setting"], f"best-of-{row['n']}"),
            *(Interval(*row["gold"]), row["p"], row["chosen"]),
        ]
        for row in summary["against_best_of_n"]
    ]
    rows = [
        [name, point["setting"], *(Interval(*point[m]) for m in ("gold", "proxy", "kl")),
         point["tokens"][0]]
        for name, found in summary["points"].items()
        for point in found
    ]  # fmt: skip
    write_study(
        run,
        summary["seconds"],
        "Steering a frozen policy while it writes",
        [
            section(
                "Results",
                cards(
                    *(
                        card(
                            f"{name}, {setting}",
                            f"{gain.estimate:+.2f}",
                            f"gold reward against {other}, which reads as many tokens or more; "
                            f"p {p:.2g} after Holm's correction",
                            interval=gain,
                        )
                        for name, setting, other, gain, p, chosen in compute
                        if chosen
                    )
                ),
                "Gold reward is in standard deviations of the policy's own completions, whose "
                f"mean is 0. Means over {len(summary['by_seed'])} worlds, each with a policy, a "
                "taste and a reward model of its own, with 95 % intervals over worlds; "
                "differences are paired by world. The setting of a method is the one its learned "
                "reward likes best.",
                figure(
                    against_kl({"gold reward": curves("kl", list(points))}),
                    "Higher and further left is better: more gold reward for the same distance "
                    "from the policy. KL is estimated from log-probs of the guided sampler; for "
                    "best-of-n it is an estimate from the selected completions, for blocks an "
                    "upper bound.",
                ),
                figure(
                    against_n(
                        {"gold reward": curves("tokens", [BEST, BLOCKS])},
                        x="tokens read for each token written",
                    ),
                    "Gold reward against compute, of the two methods whose strength is bought with "
                    "it. The tokenwise ones read the same number at any strength, see the table.",
                ),
            ),
            section(
                "All settings",
                table(
                    ["method", "setting", "gold reward", "learned reward", "KL, nats",
                     "tokens read"],
                    rows,
                ),
                "Tokens read: by the policy and by the reward model or value function together, "
                "for each token written, if each keeps a cache; all are decoders of one size. "
                "Prompts are not counted.",
                table(
                    ["method", "setting", "less", "gold reward", "p"],
                    [row[:5] for row in compute],
                ),
                "Gold reward less that of the best-of-n that reads at least as many tokens, paired "
                "by world; p after Holm's correction for all rows.",
            ),
        ],
        subtitle="A reward model learned from noisy comparisons, used at inference in four ways.",
    )  # fmt: skip
