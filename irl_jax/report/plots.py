"""Figures as SVG text that takes its colours and its font from the page.

Matplotlib lays a figure out; its colours are then replaced by CSS variables and its
fonts by the page's, so that the figure is right in a light and in a dark theme, on
screen and on paper. On its own, an SVG shows the light theme's colours. The same
input gives the same text.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from irl_jax.report.series import Series, thin
from irl_jax.types import InputError

# name -> light theme; the dark theme is in the style sheet of `irl_jax.report.page`
COLOURS = {
    "blue": "#2563eb",
    "orange": "#d9480f",
    "green": "#0d8a5f",
    "purple": "#8b3fd1",
    "pink": "#c2255c",
    "teal": "#0b7a8f",
    "brown": "#8a5a2b",
    "olive": "#66760a",
}
INK = {"ink": "#1f2430", "muted": "#6b7280", "axis": "#9aa1ad", "grid": "#e5e7eb"}

Panels = Mapping[str, Sequence[Series]]  # label of the y axis, with its unit -> curves

# Points.
WIDTH = 460  # of a figure
_LEFT, _RIGHT = 50, 12  # of a panel's curves: room for tick labels
_PANEL = 165  # height of a panel's curves
_HEADING = 38  # height of what stands above them, without the legend
_ROW = 16  # height of a row of the legend
_FOOT = 38  # height of the x axis
_STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
_MARKERS = "osD^vPX*"
_DASHES = ((0, (4, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)))
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "irl_jax",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.unicode_minus": True,
    "axes.edgecolor": INK["axis"],
    "axes.labelcolor": INK["muted"],
    "axes.titlecolor": INK["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": INK["axis"],
    "xtick.labelcolor": INK["muted"],
    "ytick.color": INK["grid"],
    "ytick.labelcolor": INK["muted"],
    "ytick.major.size": 0,
    "text.color": INK["ink"],
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


def lines(panels: Panels, *, x: str) -> str:
    """Curves over training, one panel above the other on a common x axis.

    More than 400 points of a curve are averaged in blocks.

    Args:
        panels: label of the y axis -> curves.
        x: label of the x axis.

    Returns:
        SVG text.
    """
    return _draw(panels, x, marked=False)


def against_n(panels: Panels, *, x: str = "completions to choose from, n") -> str:
    """Curves of best-of-n, n on a logarithmic axis of base 2.

    Args:
        panels: label of the y axis -> curves over n.
        x: label of the x axis.

    Returns:
        SVG text; a point tells its value to the pointer.
    """
    return _draw(panels, x, marked=True, scale=_log2_axis)


def against_kl(panels: Panels, *, x: str = "KL to the reference, nats (√ scale)") -> str:
    """Trajectories of policies over KL, on the square-root axis on which they bend.

    A trajectory is drawn in the order of its points, hollow where it starts. One of
    more than 24 points, as noisy as every update of a run, is drawn as dots and as
    the line of its means over 12 to 16 blocks. Estimates of KL below 0 are drawn at 0.

    Args:
        panels: label of the y axis -> curves over KL in nats.
        x: label of the x axis.

    Returns:
        SVG text; a point tells its value to the pointer.

    Reference: Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization",
    arXiv 2210.10760, where reward is a function of d = √KL.
    """
    at_least_0 = {
        label: [replace(curve, x=np.maximum(curve.x, 0.0)) for curve in curves]
        for label, curves in panels.items()
    }
    return _draw(at_least_0, x, marked=True, scale=_sqrt_axis)


def intervals(rows: Mapping[str, Sequence[float]], *, x: str) -> str:
    """Estimates with their intervals, a row each, the first on top.

    Args:
        rows: label -> estimate and ends of the interval.
        x: label of the x axis.

    Returns:
        SVG text; a point tells its value to the pointer.

    Raises:
        InputError: there is no row.
    """
    if not rows:
        raise InputError("plot: expected at least one row")
    left, height = 6.0 * max(map(len, rows)) + 8, _ROW * len(rows) + 8
    whole = height + _FOOT
    tips: dict[str, str] = {}
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(WIDTH / 72, whole / 72), dpi=72)
        box = (left / WIDTH, _FOOT / whole, 1 - (left + _RIGHT) / WIDTH, height / whole)
        axes = figure.add_axes(box)
        for place, (label, (estimate, low, high)) in enumerate(rows.items()):
            colour = COLOURS["blue"]
            axes.plot([low, high], [place, place], color=colour, lw=1.8, solid_capstyle="butt")
            (point,) = axes.plot(estimate, place, "o", ms=5, color=colour, gid=f"tip{place}")
            point.set(clip_on=False, zorder=20)
            tips[f"tip{place}"] = f"{label}: {estimate:.3g} [{low:.3g}, {high:.3g}]"
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.patch.set_visible(False)
        _linear_axis(axes, np.array(list(rows.values())))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))  # long labels leave little room
        axes.set_xlabel(x, loc="right", labelpad=4)
        return svg_text(figure, tips)


def _draw(panels: Panels, x: str, *, marked: bool, scale: Callable | None = None) -> str:
    if not panels or not all(panels.values()):
        raise InputError("plot: expected at least one panel, and one curve in each")
    legends = [_legend_shape(curves) for curves in panels.values()]
    heights = [_PANEL + _HEADING + _ROW * rows for rows, _ in legends]
    height = sum(heights) + _FOOT
    tips: dict[str, str] = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        top, shared = height, None
        for (label, curves), legend, panel in zip(panels.items(), legends, heights, strict=True):
            top -= panel
            box = (_LEFT / WIDTH, top / height, 1 - (_LEFT + _RIGHT) / WIDTH, _PANEL / height)
            axes = figure.add_axes(box, sharex=shared)
            shared = shared or axes
            _curves(axes, curves, tips if marked else None, path=scale is _sqrt_axis)
            _head(axes, label, *legend)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
            axes.yaxis.set_major_formatter(FuncFormatter(_number))
            axes.patch.set_visible(False)
            axes.tick_params(labelbottom=False)
        (scale or _linear_axis)(axes, np.concatenate([c.x for cs in panels.values() for c in cs]))
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(x, loc="right", labelpad=4)
        return svg_text(figure, tips)


def _curves(
    axes: Axes, curves: Sequence[Series], tips: dict[str, str] | None, *, path: bool
) -> None:
    """Draws curves; with tips, each point as an element of its own, named in tips."""
    own = iter(list(COLOURS) * len(curves))
    dash = iter(_DASHES * len(curves))
    marker = iter(_MARKERS * len(curves))
    for order, curve in enumerate(curves):
        if curve.colour is not None and curve.colour not in COLOURS:
            raise InputError(
                f"series {curve.label!r}: no colour {curve.colour!r} in {list(COLOURS)}"
            )
        colour = INK["muted"] if curve.reference else COLOURS[curve.colour or next(own)]
        style: dict[str, Any] = {"color": colour, "zorder": 3 + order}
        style["linestyle"] = next(dash) if curve.reference else "-"
        c = thin(curve) if tips is None else curve
        if path and len(c.x) > 24:
            axes.plot(c.x, c.y, "o", ms=3, mew=0, color=colour, alpha=0.3, zorder=2)
            c = thin(c, most=16)
        if c.low is not None and c.high is not None:
            axes.fill_between(c.x, c.low, c.high, color=colour, alpha=0.16, lw=0, zorder=2)
        if tips is None or c.reference:
            axes.plot(c.x, c.y, label=c.label, **style)
            continue
        sign = next(marker)
        axes.plot(c.x, c.y, label=c.label, marker=sign, ms=4.5, markevery=[], **style)
        for i in np.flatnonzero(np.isfinite(c.x) & np.isfinite(c.y)):
            face = "none" if path and i == 0 else colour
            (point,) = axes.plot(c.x[i], c.y[i], sign, ms=5, mec=colour, mfc=face)
            point.set(clip_on=False, zorder=20 + order, gid=f"tip{len(tips)}")
            band = "" if c.low is None or c.high is None else f" [{c.low[i]:.3g}, {c.high[i]:.3g}]"
            tips[f"tip{len(tips)}"] = f"{c.label} at {c.x[i]:.4g}: {c.y[i]:.3g}{band}"
    axes.margins(x=0.02, y=0.08)


def _legend_shape(curves: Sequence[Series]) -> tuple[int, int]:
    """Rows and columns of a legend that is as wide as the figure; none for one curve."""
    if len(curves) == 1:
        return 0, 0
    widths = [6.0 * len(curve.label) + 42 for curve in curves]
    room = WIDTH - _RIGHT
    columns = len(curves) if sum(widths) <= room else max(1, int(room / max(widths)))
    return math.ceil(len(curves) / columns), columns


def _head(axes: Axes, label: str, rows: int, columns: int) -> None:
    """The label of the y axis above it, and the legend between the two."""
    left = -_LEFT / (WIDTH - _LEFT - _RIGHT)
    axes.set_title(
        label, loc="left", x=left, pad=9 + _ROW * rows + 5 * (rows > 0), size=11, weight="bold"
    )
    if rows:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(left * (1 + 8.5 / _LEFT), 1.0),
            ncols=columns,
            frameon=False,
            borderaxespad=0.85,
            borderpad=0.0,
            handlelength=1.8,
            handletextpad=0.5,
            columnspacing=1.6,
            labelspacing=0.35,
            labelcolor=INK["ink"],
        )


def _linear_axis(axes: Axes, x: np.ndarray) -> None:
    whole = bool((x == np.round(x)).all())
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))


def _log2_axis(axes: Axes, x: np.ndarray) -> None:
    if x.min() <= 0:
        raise InputError(f"plot: n must be positive on a logarithmic axis, got {x.min():g}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(_apart(np.unique(x), np.log2, 0.09))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.margins(x=0.03)


def _sqrt_axis(axes: Axes, x: np.ndarray) -> None:
    root = lambda v: np.sign(v) * np.sqrt(np.abs(v))
    square = lambda v: np.sign(v) * np.square(v)
    axes.set_xscale("function", functions=(root, square))
    most = max(float(x.max()), 1e-9)
    power = math.floor(math.log10(most))
    round_numbers = [m * 10.0**e for e in range(power - 3, power + 1) for m in (1, 2, 5)]
    ticks = np.array([0.0] + [v for v in round_numbers if v <= most])
    axes.set_xticks(_apart(ticks, root, 0.1))
    axes.set_xlim(*square(root(most) * np.array([-0.025, 1.025])))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))


def _apart(ticks: np.ndarray, scale: Callable, gap: float) -> list[float]:
    """The first and last tick and those between that leave a gap, in shares of the axis."""
    at = scale(ticks)
    least = gap * (at[-1] - at[0])
    kept = [len(ticks) - 1]
    for i in range(len(ticks) - 2, 0, -1):
        if at[kept[-1]] - at[i] >= least <= at[i] - at[0]:
            kept.append(i)
    return [float(ticks[i]) for i in sorted({0, *kept})]


def _number(value: float, position: int | None = None) -> str:
    """A tick label of at most seven characters: 0.25, −400, 12k, 1.5M, 2.5e−4."""
    size = abs(value)
    text = f"{value:g}"
    if 1e4 <= size < 1e12:
        unit, suffix = (1e9, "G") if size >= 1e9 else (1e6, "M") if size >= 1e6 else (1e3, "k")
        text = f"{value / unit:g}{suffix}"
    elif size and not 1e-3 <= size < 1e12:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace("-", "−")


def svg_text(figure: Figure, tips: Mapping[str, str]) -> str:
    """A figure as SVG without what would clash in a page, its colours as variables.

    Args:
        figure: drawn in `STYLE`, in the colours `COLOURS` and `INK`.
        tips: gid of an element -> what it tells to the pointer.
    """
    figure.patch.set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    view = svg.split('viewBox="', 1)[1].split('"', 1)[0]
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    digest = hashlib.sha256((svg + str(tips)).encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))

    def attributes(tag: re.Match) -> str:
        text = " ".join(tag[0].split())
        text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
        text = re.sub(r'( id="|url\(#|ref="#)', rf"\g<1>{digest}", text)
        text = re.sub(r'font-family: [^;"]*;? ?| transform="rotate\(-0 [^"]*"', "", text)
        for name, colour in {**COLOURS, **INK}.items():
            text = text.replace(colour, f"var(--{name},{colour})")
        return re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", text)

    for name, tip in tips.items():
        body = body.replace(f'<g id="{name}">', f"<g><title>{escape(tip, quote=False)}</title>")
    body = re.sub(r"<[^>]*>", attributes, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' class="plot" role="img" viewBox="{view}" font-family="system-ui, sans-serif"'
        f' stroke-linejoin="round">\n{body}</svg>'
    )
