"""Values as a report shows them: on a page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval

Columns = Sequence[str] | Mapping[str, Any]
Rows = Sequence[Any] | Mapping[Any, Sequence[Any]]


def as_interval(value: Any) -> Any:
    """An interval that JSON turned into its three numbers; any other value as it is.

    Example:
        >>> as_interval([0.5, 0.25, 1.0]), as_interval("a"), as_interval(None)
        (Interval(estimate=0.5, low=0.25, high=1.0), 'a', None)
    """
    three = isinstance(value, (list, tuple)) and len(value) == 3
    return Interval(*value) if three and all(isinstance(x, float) for x in value) else value


def cells(columns: Columns, rows: Rows) -> list[list[Any]]:
    """The cells of a table, row by row.

    Args:
        columns: headings; or heading -> key of a row that is a mapping, or what takes the cell
            from the row.
        rows: each row's cells; or first cell -> the others; or what `columns` reads.

    Example:
        >>> cells({"rule": "name", "twice": lambda row: 2 * row["n"]}, [{"name": "a", "n": 3}])
        [['a', 6]]
        >>> cells(["rule", "before", "after"], {"a": [1, 2]})
        [['a', 1, 2]]
    """
    if isinstance(columns, Mapping):
        take = lambda row, at: row[at] if isinstance(at, str) else at(row)
        rows = [[take(row, at) for at in columns.values()] for row in rows]
    elif isinstance(rows, Mapping):
        rows = [[name, *others] for name, others in rows.items()]
    return [[as_interval(cell) for cell in row] for row in rows]


def show(value: Any) -> str:
    """A value as it stands in a table.

    Example:
        >>> [show(v) for v in (0.123456, -0.0, 12000, True, None, "a", [1, 2])]
        ['0.1235', '0', '12,000', 'yes', '–', 'a', '1, 2']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return minus(f"{value:,}" if abs(value) >= 10_000 else str(value))
    if isinstance(value, Interval):
        return minus(str(value))
    if isinstance(value, float):
        return minus(f"{value:z.4g}")
    if isinstance(value, (list, tuple)):
        return ", ".join(show(v) for v in value)
    return value if isinstance(value, Markup) else str(value)


def minus(number: str) -> str:
    """A number with the sign that typesetting uses."""
    return number.replace("-", "−")


def duration(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> duration(0.21), duration(83), duration(7384)
        ('0.21 s', '1 min 23 s', '2 h 3 min')
    """
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def means_over(count: int, unit: str) -> str:
    """How to read means, intervals and differences over independent repetitions.

    Example:
        >>> means_over(6, "world")
        'Figures are means over 6 worlds, with 95 % intervals. Differences are paired by world.'
    """
    return (
        f"Figures are means over {count} {unit}s, with 95 % intervals. "
        f"Differences are paired by {unit}."
    )


def closing(*parts: str | Rows, report: Path | str) -> str:
    """The closing lines of a run in the terminal.

    Args:
        parts: a line of text, or the rows of a table as `cells` takes them, its columns aligned.
        report: path of the report; the last line.

    Example:
        >>> print(closing("accuracy", {"dense": [[0.5, 0.4, 0.6]], "a": [None]}, report="r.html"))
        <BLANKLINE>
        accuracy
          dense  0.500 [0.400, 0.600]
          a      –
        report  r.html
    """
    out = [""]
    for part in parts:
        if isinstance(part, str):
            out.append(part)
            continue
        words = [[_plain(cell) for cell in row] for row in cells((), part)]
        widths = [max(map(len, column)) for column in zip(*words, strict=True)]
        out += [
            "  " + "  ".join(f"{w:{n}}" for w, n in zip(row, widths, strict=True)).rstrip()
            for row in words
        ]
    return "\n".join([*out, f"report  {report}"])


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:z.3f}" if not value or abs(value) >= 5e-4 else f"{value:.2g}"
    return "–" if value is None else str(value)
