"""Curves: what a plot draws, taken from rows of metrics.jsonl or from intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irl_jax.types import InputError

F64 = NDArray[np.float64]
SMOOTHED = 20  # points of a smoothed curve that stand for one


@dataclass(frozen=True)
class Series:
    """A named curve, with a band if its uncertainty is known.

    Attributes:
        label: name in the legend.
        x: f64[N].
        y: f64[N]; NaN leaves a gap.
        low: f64[N], lower end of the band; None if there is none.
        high: f64[N], upper end of the band.
        colour: one of `irl_jax.report.plots.COLOURS`, so that a quantity keeps its
            colour from figure to figure; by its place in the plot if None.
        reference: whether it is something to compare with (chance, an oracle), drawn
            muted and dashed.
    """

    label: str
    x: F64
    y: F64
    low: F64 | None = None
    high: F64 | None = None
    colour: str | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        shapes = {np.shape(v) for v in (self.x, self.y, self.low, self.high) if v is not None}
        if (
            len(shapes) != 1
            or len(next(iter(shapes))) != 1
            or (self.low is None) != (self.high is None)
        ):
            raise InputError(f"series {self.label!r}: x, y, low and high need one shape [N]")


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    name: str,
    *,
    stage: str = "train",
    label: str | None = None,
    x: str = "step",
    spread: str | None = None,
    colour: str | None = None,
) -> Series:
    """A metric over the rows of one stage that have it; null becomes a gap.

    Args:
        rows: rows of metrics.jsonl (`irl_jax.train.run.read_rows`).
        name: of the metric.
        stage: of the run.
        label: name in the legend; the metric's if None.
        x: name of the abscissa, "step" or a metric such as a KL.
        spread: name of a metric that is half the height of the band, such as a
            standard error.
        colour: see `Series`.

    Raises:
        InputError: no row of the stage has the metric; names those there are.
    """
    own = [row for row in rows if row.get("stage", stage) == stage]
    found = [row for row in own if name in row and row.get(x) is not None]
    if not found:
        names = sorted({key for row in own for key in row} - {"stage", "step", "time"})
        raise InputError(
            f"metrics.jsonl: no row of stage {stage!r} has {name!r} and {x!r};"
            f" it has {', '.join(names) or 'no rows'}"
        )
    column = lambda key: np.array(
        [math.nan if row.get(key) is None else row[key] for row in found], np.float64
    )
    y = column(name)
    half = None if spread is None else column(spread)
    return Series(
        label=label or name,
        x=column(x),
        y=y,
        low=None if half is None else y - half,
        high=None if half is None else y + half,
        colour=colour,
    )


def from_intervals(
    label: str,
    x: Sequence[float],
    intervals: Sequence[Sequence[float]],
    *,
    colour: str | None = None,
    reference: bool = False,
) -> Series:
    """A curve of estimates and its band of confidence.

    Args:
        label: name in the legend.
        x: [N].
        intervals: one a point, or the three numbers of each as JSON has them, [N].
        colour: see `Series`.
        reference: see `Series`.
    """
    estimate, low, high = np.asarray(intervals, np.float64).T
    return Series(label, np.asarray(x, np.float64), estimate, low, high, colour, reference)


def curves(
    named: Mapping[str, Sequence[Sequence[float]]],
    x: Sequence[float],
    *,
    reference: Sequence[str] = (),
) -> list[Series]:
    """A curve of estimates with its band for each name.

    Args:
        named: label -> intervals as `from_intervals` takes them, fewer than x where a curve
            ends earlier.
        x: [N].
        reference: labels of what the others are compared with.
    """
    return [
        from_intervals(label, x[: len(values)], values,
                       reference=label in reference)
        for label, values in named.items()
    ]  # fmt: skip


def thin(series: Series, most: int = 400) -> Series:
    """The series with at most `most` points, each the mean of a block of neighbours.

    Args:
        series: of any length.
        most: number of points that a figure can show.
    """
    size = math.ceil(len(series.x) / most)
    if size <= 1:
        return series
    starts = np.arange(0, len(series.x), size)
    counts = np.diff(np.append(starts, len(series.x)))
    mean = lambda v: np.add.reduceat(v, starts) / counts
    band = (None, None) if series.low is None else (mean(series.low), mean(series.high))
    return replace(series, x=mean(series.x), y=mean(series.y), low=band[0], high=band[1])


def smooth(series: Series, window: int) -> Series:
    """Centred moving mean over `window` points, fewer at the ends; gaps are skipped.

    Args:
        series: of any length; its band is dropped, it is not one of the mean.
        window: number of points, odd or even.
    """
    known = np.isfinite(series.y)
    box = np.ones(window)
    total = np.convolve(np.where(known, series.y, 0.0), box)
    count = np.convolve(known.astype(np.float64), box)
    middle = slice((window - 1) // 2, (window - 1) // 2 + len(series.y))
    with np.errstate(invalid="ignore"):
        y = total[middle] / count[middle]
    return replace(series, y=y, low=None, high=None)


def training_curve(rows: Iterable[Mapping[str, Any]], name: str, *, stage: str) -> Series:
    """A metric of training, smoothed where its updates are many.

    Args:
        rows: as `from_rows` takes them.
        name: of the metric.
        stage: of the run.

    Raises:
        InputError: as `from_rows`.
    """
    series = from_rows(rows, name, stage=stage)
    return smooth(series, max(1, len(series.x) // SMOOTHED))
