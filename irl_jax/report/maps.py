"""Values of places, such as rewards of a grid's cells or visits to them, as SVG text.

Places are squares whose colour says the sign of their value and whose strength its size, on one
scale for all maps of a figure. Colours are those of the page, as in `irl_jax.report.plots`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irl_jax.report.plots import COLOURS, INK, STYLE, WIDTH, svg_text
from irl_jax.report.values import show
from irl_jax.types import InputError

COLUMNS = 3  # maps side by side, at most
_GAP = 16  # points between maps
_TITLE = 26  # points above a map
_SCALE = 44  # points below, for the scale
_SIDE = 0.86  # of a square, in units of the distance between neighbours
_STEPS = 9  # squares of the scale


@dataclass(frozen=True)
class Map:
    """Places and their values.

    Attributes:
        x: f[N], to the right; neighbours are 1 apart.
        y: f[N], upwards.
        value: f[N].
        names: of the places, for the pointer.
        ways: pairs of places between which a way is drawn.
        marked: places with a frame.
    """

    x: np.ndarray
    y: np.ndarray
    value: np.ndarray
    names: Sequence[str]
    ways: Sequence[tuple[int, int]] = ()
    marked: Sequence[int] = ()


def grid_map(value: np.ndarray) -> Map:
    """A map of a grid; cell (i, j) is place i · columns + j, as in `irl_jax.envs.tabular`.

    Args:
        value: f[rows, columns]; NaN is not drawn.

    Example:
        >>> grid_map(np.zeros((1, 2))).names
        ['row 0, column 0', 'row 0, column 1']
    """
    row, column = np.indices(value.shape).reshape(2, -1)
    names = [f"row {i}, column {j}" for i, j in zip(row, column, strict=True)]
    return Map(column.astype(float), -row.astype(float), value.ravel(), names)


def maps(panels: Mapping[str, Map], *, unit: str) -> str:
    """Maps side by side, with one scale.

    Args:
        panels: title -> map.
        unit: what the values are, with their unit; the label of the scale.

    Returns:
        SVG text; a place tells its value to the pointer.

    Raises:
        InputError: there is no map, or no finite value.
    """
    values = [panel.value[np.isfinite(panel.value)] for panel in panels.values()]
    if not values or not all(len(x) for x in values):
        raise InputError("maps: expected at least one map, and a finite value in each")
    most = float(np.abs(np.concatenate(values)).max()) or 1.0
    columns = min(COLUMNS, len(panels))
    side = (WIDTH - _GAP * (columns - 1)) / columns
    spans = [[np.ptp(panel.x) + 1, np.ptp(panel.y) + 1] for panel in panels.values()]
    tall = side * max(y / x for x, y in spans)
    rows = math.ceil(len(panels) / columns)
    height = rows * (tall + _TITLE) + _SCALE
    tips: dict[str, str] = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        for number, (title, panel) in enumerate(panels.items()):
            row, column = divmod(number, columns)
            left, top = column * (side + _GAP), height - (row + 1) * (tall + _TITLE)
            box = (left / WIDTH, top / height, side / WIDTH, tall / height)
            _draw(figure.add_axes(box, anchor="NW"), title, panel, most, tips)
        scale = figure.add_axes((0, 8 / height, 0.4, 26 / height), anchor="W")
        _draw_scale(scale, most, unit, negative=min(x.min() for x in values) < 0)
        return svg_text(figure, tips)


def _draw(axes: Axes, title: str, panel: Map, most: float, tips: dict[str, str]) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(panel.x.min() - 0.5, panel.x.max() + 0.5)
    axes.set_ylim(panel.y.min() - 0.5, panel.y.max() + 0.5)
    axes.set_title(title, loc="left", pad=6, size=11, weight="bold")
    for a, b in panel.ways:
        axes.plot(panel.x[[a, b]], panel.y[[a, b]], color=INK["axis"], lw=1, zorder=1)
    for i in np.flatnonzero(np.isfinite(panel.value)).tolist():
        x, y, value = panel.x[i], panel.y[i], panel.value[i]
        _square(axes, x, y, value / most).set_gid(f"tip{len(tips)}")
        tips[f"tip{len(tips)}"] = f"{panel.names[i]}: {show(float(value))}"
        if i in panel.marked:
            axes.add_patch(Rectangle(*_box(x, y), fill=False, ec=INK["ink"], lw=1.4, zorder=4))


def _box(x: float, y: float) -> tuple[tuple[float, float], float, float]:
    return (x - _SIDE / 2, y - _SIDE / 2), _SIDE, _SIDE


def _square(axes: Axes, x: float, y: float, share: float) -> Rectangle:
    """A place; its colour is as strong as its share of the largest value."""
    axes.add_patch(Rectangle(*_box(x, y), fc=INK["grid"], lw=0, zorder=2))
    colour = COLOURS["orange" if share > 0 else "blue"]
    square = Rectangle(*_box(x, y), fc=colour, alpha=abs(share), lw=0, zorder=3)
    axes.add_patch(square)
    return square


def _draw_scale(axes: Axes, most: float, unit: str, *, negative: bool) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.5, _STEPS + 0.5)
    axes.set_ylim(-1.4, 0.5)
    for i, share in enumerate(np.linspace(-1 if negative else 0, 1, _STEPS)):
        _square(axes, i, 0, share)
        if share in (-1, 0, 1):
            label = show(float(share) * most)
            axes.text(i, -0.6, label, ha="center", va="top", size=9, color=INK["muted"])
    axes.text(_STEPS - 0.2, 0, unit, ha="left", va="center", size=10, color=INK["muted"])
