"""What the study of over-optimisation measures and shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from irl_jax.eval.best_of_n import mean_curves
from irl_jax.eval.frontier import gold_at_kl
from irl_jax.eval.intervals import Interval, adjusted, t_interval
from irl_jax.eval.overoptimisation import Fit, Form, fit
from irl_jax.report.page import CORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import against_kl
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

BLOCK = 4  # updates of GRPO whose means make a point
EQUAL_KL = (2.0, 10.0, 20.0)  # nats at which policies are compared
STOPPED = "stopped by a second proxy"
COLOURS = ("blue", "orange", "green", "purple", "pink", "teal")
Arrays = Mapping[str, np.ndarray]


def interval(values: ArrayLike) -> Interval:
    """Of the mean over seeds; of a difference, paired by seed."""
    return t_interval(values)


def blocks(x: np.ndarray, size: int) -> np.ndarray:
    """Means over `size` neighbours on the last axis; a block that is not full is left out."""
    whole = x[..., : x.shape[-1] // size * size]
    return whole.reshape(*x.shape[:-1], -1, size).mean(-1, dtype=np.float64)


def fitted(curves: Arrays, form: Form) -> Fit:
    """The form fitted to the points of all seeds."""
    kl, gold = curves["kl"], curves["gold"]
    seeds = np.repeat(np.arange(len(kl)), kl.shape[1])
    return fit(np.sqrt(np.maximum(kl, 0)).ravel(), gold.ravel(), form, clusters=seeds)


def landmarks(curves: Arrays) -> dict[str, np.ndarray]:
    """Of each seed's curve, f64[S]: the top and the end, gold and KL, and gold at `EQUAL_KL`."""
    rows, top = np.arange(len(curves["gold"])), curves["gold"].argmax(1)
    at = partial(gold_at_kl, curves["kl"], curves["gold"])
    found = {
        "top": curves["gold"][rows, top],
        "kl at the top": curves["kl"][rows, top],
        "end": curves["gold"][:, -1],
        "kl at the end": curves["kl"][:, -1],
    }
    found["drop"] = found["top"] - found["end"]
    return found | {f"at {kl:g} nats": at(kl) for kl in EQUAL_KL}


def stopped(curves: Arrays) -> dict[str, np.ndarray]:
    """Landmarks of runs that end where a proxy they were not optimised against is highest."""
    rows, last = np.arange(len(curves["gold"])), curves["check"].argmax(1)
    found = landmarks(curves)
    end, kl = curves["gold"][rows, last], curves["kl"][rows, last]
    return {
        **{name: np.full(len(rows), np.nan) for name in found},
        "top": end, "kl at the top": kl, "end": end, "kl at the end": kl, "drop": 0.0 * end,
    }  # fmt: skip


def compared(values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds and differences to the base, paired by seed; None where a seed has none."""
    known = {name for name in base if np.isfinite(values[name]).all()}
    both = {name for name in known if np.isfinite(base[name]).all()}
    return {
        "means": {n: interval(values[n]) if n in known else None for n in base},
        "against": {n: interval(values[n] - base[n]) if n in both else None for n in base},
        "by_seed": {n: values[n].tolist() if n in known else None for n in base},
    }


def corrected(marks: Mapping[str, Arrays], base: str) -> dict[str, dict[str, float]]:
    """p of every arm's difference to the base by Holm's procedure, landmark -> arm -> p.

    Arms that are compared at a landmark are one family.
    """
    found = {}
    for name, own in marks[base].items():
        differences = {arm: own_of[name] - own for arm, own_of in marks.items() if arm != base}
        there = {arm: x for arm, x in differences.items() if np.isfinite(x).all()}
        found[name] = adjusted(there)
    return found


def summarise(
    chosen: Arrays,
    grpo: Arrays,
    dpo: Arrays,
    *,
    sizes: Sequence[int],
    widths: Sequence[int],
    arms: Sequence[str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The results as JSON values.

    Args:
        chosen: `gold` f32[S, P, K], and rewards of arms, as `best_of_n_rewards` makes them.
        grpo: fields of `Trace`, f32[arms, S, updates].
        dpo: fields of `Trace`, f32[sizes, S, measurements].
        sizes: comparisons a proxy learned from.
        widths: hidden units of a proxy.
        arms: names of `grpo`'s first axis.
        seconds: of the stages.

    Returns:
        `fits` and `curves` by method and proxy; `arms`: each arm's landmarks, against plain
        GRPO on the proxy of the middle size and the last width, `base`; `corrected`: p of these
        differences by Holm's procedure; and `hump`, by how much gold of `base` falls from its
        top to its end.
    """
    sized = [f"{n} pairs, {w} units" for n in sizes for w in widths]
    base = f"{sizes[len(sizes) // 2]} pairs, {widths[-1]} units"
    smooth = {name: blocks(x, min(BLOCK, x.shape[-1])) for name, x in grpo.items()}
    of_arm = {arm: {k: x[i] for k, x in smooth.items()} for i, arm in enumerate(arms)}
    of_dpo = {
        f"{n} pairs": {k: x[i].astype(np.float64) for k, x in dpo.items()}
        for i, n in enumerate(sizes)
    }
    of_best = {arm: mean_curves(chosen[arm], chosen["gold"]) for arm in chosen if arm != "gold"}
    methods: dict[str, tuple[dict[str, Any], Form]] = {
        "best-of-n": (of_best, "best-of-n"),
        "GRPO": (of_arm, "reinforcement learning"),
        "DPO": (of_dpo, "reinforcement learning"),
    }
    marks = {arm: landmarks(curves) for arm, curves in of_arm.items()}
    marks[STOPPED] = stopped(of_arm[base])
    return {
        "seeds": int(chosen["gold"].shape[0]),
        "base": base,
        "sized": sized,
        "best_of": int(chosen["gold"].shape[-1]),
        "hump": interval(marks[base]["drop"]),
        "correlation": {
            arm: interval([np.corrcoef(r.ravel(), g.ravel())[0, 1] for r, g in
                            zip(chosen[arm], chosen["gold"], strict=True)])
            for arm in of_best
        },
        "arms": {arm: compared(values, marks[base]) for arm, values in marks.items()},
        "corrected": corrected(marks, base),
        "fits": {
            method: {name: described(fitted(curves, form)) for name, curves in named.items()
                     if method != "GRPO" or name in sized}
            for method, (named, form) in methods.items()
        },
        "curves": {
            method: {name: averaged(curves) for name, curves in named.items()}
            for method, (named, _) in methods.items()
        },
        "seconds": dict(seconds),
    }  # fmt: skip


def averaged(curves: Arrays) -> dict[str, list]:
    """Points of a curve: means over seeds of `kl` and `proxy`, intervals of `gold`."""
    return {
        "kl": curves["kl"].mean(0).tolist(),
        "proxy": curves["proxy"].mean(0).tolist(),
        "gold": [interval(column) for column in curves["gold"].T],
    }


def described(found: Fit) -> dict[str, Any]:
    """A fit as JSON values; ends of the peak that are infinite are None."""
    peak = [None if math.isinf(x) else x for x in found.peak]
    d = np.linspace(0, found.reach, 40)
    return {
        "alpha": found.alpha, "beta": found.beta, "r2": found.r2, "peak": peak,
        "top": found.top, "reach": found.reach,
        "drawn": {"kl": (d**2).tolist(), "gold": found(d).tolist()},
    }  # fmt: skip


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    p = summary["corrected"]["end"]
    rows = {
        arm: [row["means"]["top"], row["means"]["kl at the top"], row["against"]["end"], p.get(arm)]
        for arm, row in summary["arms"].items()
    }
    return closing(
        f"{summary['seeds']} worlds; gold in standard deviations of the reference's [95 %]",
        f"GRPO on {summary['base']}: gold falls from its top to its end by",
        [[summary["hump"]]],
        {"": ["top", "KL there", "end, against plain", "p, Holm"]} | rows,
        report=report,
    )


def drawing(summary: dict[str, Any], method: str, names: Sequence[str], *, fits: bool) -> str:
    """Gold and proxy reward over KL, SVG."""
    gold, proxy = [], []
    for name, colour in zip(names, COLOURS * len(names), strict=False):
        c = summary["curves"][method][name]
        kl = np.maximum(c["kl"], 0.0)
        gold.append(from_intervals(name, kl, c["gold"], colour=colour))
        proxy.append(Series(name, kl, np.array(c["proxy"]), colour=colour))
    if fits:
        drawn = {name: summary["fits"][method][name]["drawn"] for name in names}
        gold += [
            Series(f"fit, {name}", np.array(x["kl"]), np.array(x["gold"]), reference=True)
            for name, x in drawn.items()
        ]
    panels = {"gold reward, standard deviations": gold}
    return against_kl(panels | {"proxy reward, logits": proxy} if fits else panels)


def arms_table(summary: dict[str, Any]) -> Markup:
    """Every arm's landmarks, and how it ends against plain GRPO."""
    at = [f"at {kl:g} nats" for kl in EQUAL_KL]
    mean = lambda name: lambda arm: summary["arms"][arm]["means"][name]
    against = lambda name: lambda arm: summary["arms"][arm]["against"][name]
    columns = {
        "GRPO on": str,
        "top": mean("top"),
        "KL at the top": mean("kl at the top"),
        "top, against plain": against("top"),
        "end": mean("end"),
        "KL at the end": mean("kl at the end"),
        "end, against plain": against("end"),
        **{f"{name}, against plain": against(name) for name in at},
    }
    return table(columns, list(summary["arms"]))


def corrected_table(summary: dict[str, Any]) -> Markup:
    """p of every difference in the table of arms, after Holm's correction."""
    names = ["top", "end", *[f"at {kl:g} nats" for kl in EQUAL_KL]]
    rows = {
        arm: [summary["corrected"][name].get(arm) for name in names]
        for arm in summary["arms"]
        if arm != summary["base"]
    }
    return table(["p, against plain GRPO", *names], rows)


def fits_table(summary: dict[str, Any]) -> Markup:
    """Coefficients of every fit."""

    def place(found: Mapping[str, Any]) -> str:
        ends = ["∞" if x is None else f"{x:.2f}" for x in found["peak"]]
        beyond = found["peak"][0] is None or found["peak"][0] > found["reach"]
        return f"{ends[0]} [{ends[1]}, {ends[2]}]" + (" (beyond what was seen)" if beyond else "")

    rows = [
        [method, name, found["alpha"], found["beta"], found["r2"], place(found), found["top"]]
        for method, named in summary["fits"].items()
        for name, found in named.items()
    ]
    return table(["method", "proxy", "α", "β", "R²", "peak, d*", "greatest R(d) seen"], rows)


def headline(summary: dict[str, Any]) -> Markup:
    """How far plain GRPO falls, and the arms that help most."""
    against = {arm: row["against"]["end"] for arm, row in summary["arms"].items()}
    known = [arm for arm in against if arm not in summary["sized"] and against[arm] is not None]
    ranked = sorted(known, key=lambda arm: -against[arm][0])
    hump = card(
        "Gold falls from its top to its end",
        summary["hump"],
        f"GRPO on {summary['base']}, {summary['seeds']} worlds",
        tone="bad",
    )
    words = "gold at the end, against plain GRPO"
    return cards(hump, *(card(arm, against[arm], words) for arm in ranked[:3]))


def curves_section(summary: dict[str, Any]) -> Markup:
    """Each method over KL, with the fits."""
    units = summary["base"].split(", ")[1]
    wide = [name for name in summary["sized"] if name.split(", ")[1] == units]
    shown = {
        "GRPO": (wide, f"GRPO against one proxy, {units}."),
        "best-of-n": (wide, f"Best of up to {summary['best_of']}, by the same proxies."),
        "DPO": (
            list(summary["curves"]["DPO"]),
            "DPO on the comparisons that the proxies learned from.",
        ),
    }
    drawn = [
        figure(drawing(summary, method, names, fits=True), caption)
        for method, (names, caption) in shown.items()
    ]
    return section("Curves", figures(*drawn))


def what_helps(summary: dict[str, Any]) -> Markup:
    """The arms against plain GRPO."""
    base = summary["base"]
    rest = [arm for arm in summary["curves"]["GRPO"] if arm not in summary["sized"]]
    half = (len(rest) + 1) // 2
    drawn = lambda arms: drawing(summary, "GRPO", [base, *arms], fits=False)
    return section(
        "What helps",
        figures(
            figure(drawn(rest[:half]), "Plain GRPO, and aggregates of the ensemble."),
            figure(drawn(rest[half:]), "Plain GRPO, and other means."),
        ),
        arms_table(summary),
        f"Arms named by pairs have labels of their own, all others those of {base}. Differences "
        "are paired by world. A cell is empty where not every run goes that far from the "
        f"reference. “{STOPPED}” ends where a second proxy is highest. That proxy learned from "
        "as many other comparisons.",
        CORRECTED,
        corrected_table(summary),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: curves with their fits, mitigations, tables."""
    results = section(
        "Results",
        headline(summary),
        "Gold is in standard deviations of the reference policy's gold. The reference has 0. "
        "Intervals are 95 % over worlds. Over-optimisation is gold that falls while the proxy "
        "rises. Dashed lines are the forms of Gao et al.: d (α − β log d) for GRPO and DPO, "
        "d (α − β d) for best-of-n, with d = √KL.",
    )
    write_study(
        run,
        summary["seconds"],
        "Over-optimisation of learned rewards",
        [
            results,
            curves_section(summary),
            what_helps(summary),
            section("Fits", fits_table(summary)),
        ],
        subtitle="Best-of-n, GRPO and DPO optimise proxies that learned from noisy comparisons. "
        "The gold reward, by which the annotators compared, judges them.",
    )
