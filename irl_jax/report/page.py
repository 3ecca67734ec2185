"""One HTML page that needs nothing else: no script, no font, no request.

A page is a title and sections, a section a heading and blocks, a block what one of
the functions here returns. They take plain values and escape them; what is markup
already is `markupsafe.Markup` and is left alone, a plain string becomes a paragraph.
`page.html` has the markup, a Jinja macro for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.files import write_atomic
from irl_jax.report.style import CSS
from irl_jax.report.values import Columns, Rows, as_interval, cells, duration, minus, show
from irl_jax.types import InputError

Tone = Literal["good", "bad", "plain"]

# What to say of a table with many comparisons, of which some exclude 0 by chance.
UNCORRECTED = "An interval is of one comparison; no correction was made for how many there are."
CORRECTED = (
    "Those intervals hold one at a time. Below, p of each difference after Holm's correction for "
    "as many as its column has: what is at most 0.05 is sure, all such in a column together."
)

_FOLD = 600  # characters of a text shown before it folds
_CUT = 6000  # characters of a text kept at all
_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined)
_ENVIRONMENT.filters["show"] = show
# The macros of page.html, whose results are markup.
_HTML: Any = _ENVIRONMENT.from_string(
    resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
).module


def page(title: str, sections: Sequence[Markup], *, subtitle: str = "") -> str:
    """The page, as text to `write`.

    Args:
        title: heading of the page.
        sections: from `section`.
        subtitle: one sentence below the title: what was done, to what, with what.

    Raises:
        InputError: two sections have one heading.
    """
    found = [re.search(r'<section id="([^"]*)"><h2>(.*?)</h2>', s) for s in sections]
    links = {m[1]: Markup(m[2]) for m in found if m}
    if len(links) < len(sections):
        raise InputError(f"page: sections need headings of their own, got {list(links.values())}")
    return str(_HTML.page(title, subtitle, Markup(CSS), links.items(), sections))


def section(heading: str, *blocks: Markup | str) -> Markup:
    """A heading and blocks; a plain string is a paragraph."""
    name = re.sub(r"\W+", "-", heading.lower()).strip("-") or "section"
    made = [b if isinstance(b, Markup) else text(b) for b in blocks]
    return _HTML.section(name, heading, made)


def text(paragraph: str) -> Markup:
    """A paragraph."""
    return _HTML.text(paragraph)


def command(line: str) -> Markup:
    """A command line, or any text in a fixed-width font."""
    return _HTML.command(line)


def note(message: str, tone: Tone = "plain") -> Markup:
    """A paragraph set apart: what to be aware of in what follows."""
    return _HTML.note(message, tone)


def card(
    label: str,
    value: Any,
    detail: str = "",
    *,
    form: str = "",
    interval: Any = None,
    baseline: float | None = 0.0,
    tone: Tone = "plain",
) -> Markup:
    """A headline number.

    Args:
        label: what it is.
        value: the number; of an interval the ends stand smaller beside the estimate.
        detail: unit, sample size, or what it is to be held against.
        form: format of the numbers of an interval, such as ".1%"; if empty, four digits.
        interval: drawn below; None: the value, if it is one.
        baseline: value that would mean nothing happened, drawn with the interval; None: no
            interval is drawn.
        tone: "good" and "bad" also colour it.
    """
    value = as_interval(value)
    drawn = value if interval is None and isinstance(value, Interval) else as_interval(interval)
    ends: list[str] = []
    if isinstance(value, Interval):
        value, *ends = [minus(f"{v:{form}}") if form else show(v) for v in value]
    below = "" if drawn is None or baseline is None else _whisker(drawn, baseline)
    return _HTML.card(label, show(value), ends, below, detail, tone)


def cards(*items: Markup) -> Markup:
    """Headline numbers side by side."""
    return _HTML.side_by_side("cards", items)


def figure(svg: str, caption: str, data: Markup | None = None) -> Markup:
    """An SVG of `irl_jax.report.plots` and its caption.

    Args:
        svg: SVG text.
        caption: what to see in it; also read out in its place.
        data: a `table` of the numbers, folded below it.
    """
    named = Markup(svg).replace("<svg ", Markup('<svg aria-label="{}" ').format(caption), 1)
    return _HTML.figure(named, caption, data)


def figures(*items: Markup) -> Markup:
    """Figures side by side where there is room."""
    return _HTML.side_by_side("figures", items)


def table(columns: Columns, rows: Rows) -> Markup:
    """A table; numbers and intervals stand to the right.

    Args:
        columns: headings, or heading -> how a row gives the cell, see `values.cells`.
        rows: cells of any type, see `values.show`; three floats in a list are an interval.
    """
    body = cells(columns, rows)
    numeric = [
        bool(column) and all(c is None or isinstance(c, (int, float, Interval)) for c in column)
        for column in (zip(*body, strict=True) if body else [()] * len(columns))
    ]
    return _HTML.table(columns, body, numeric)


@dataclass(frozen=True)
class Sample:
    """A prompt and what was answered before and after training.

    Attributes:
        prompt: text of the prompt.
        before: completion of the policy at the start.
        after: completion of the policy at the end.
        gold_before: gold reward of `before`; None: there is no reward.
        gold_after: gold reward of `after`.
    """

    prompt: str
    before: str
    after: str
    gold_before: float | None
    gold_after: float | None


def samples(rows: Sequence[Sample], *, reward: str = "gold reward") -> Markup:
    """Completions before and after, side by side, with their rewards.

    Args:
        rows: what to show.
        reward: name of the reward.
    """
    change = lambda s: 0.0 if s.gold_before is None else s.gold_after - s.gold_before
    value = lambda gold: None if gold is None else _signed(gold)
    blocks = []
    for s in rows:
        sides = [
            ("before", _folded(s.before), value(s.gold_before), "plain", reward),
            ("after", _folded(s.after), value(s.gold_after), _tone(change(s)), reward),
        ]
        blocks.append(_HTML.sample(_folded(s.prompt), sides))
    return _HTML.side_by_side("samples", [Markup("\n").join(blocks)])


def key_values(mapping: Mapping[str, Any]) -> Markup:
    """A configuration: nested mappings become dotted names."""
    return _HTML.key_values(flatten(mapping).items())


def timings(seconds: Mapping[str, float]) -> Markup:
    """How long each part took, as bars in shares of the whole.

    Args:
        seconds: part -> duration.
    """
    total = sum(seconds.values())
    rows = [(name, duration(s), 100 * s / total) for name, s in seconds.items() if total > 0]
    return _HTML.timings(rows, duration(total))


def write(path: str | Path, html: str) -> None:
    """Writes a page, whole or not at all.

    Raises:
        InputError: no space or no permission; names the path.
    """
    write_atomic(Path(path), html.encode("utf-8", "replace"))


def standstill(kl: Interval | None) -> Markup:
    """A note where the policy has not moved, as `unmoved` says; else nothing.

    Args:
        kl: to the policy it started from, nats a completion, if it was measured.
    """
    words = "" if kl is None else unmoved(kl)
    return note(f"{words[0].upper()}{words[1:]}.") if words else Markup("")


def gain_tone(gain: Interval, kl: Interval | None) -> Tone:
    """How to show a policy's gain: plain if its interval holds 0, or if the policy has not moved.

    Args:
        gain: after less before.
        kl: to the policy it started from, nats a completion, if it was measured.
    """
    if kl is not None and unmoved(kl):
        return "plain"
    return "good" if gain.low > 0 else "bad" if gain.high < 0 else "plain"


def _whisker(interval: Interval, baseline: float) -> Markup:
    """A confidence interval drawn against its baseline."""
    low, high = min(interval.low, baseline), max(interval.high, baseline)
    at = lambda v: f"{4 + 92 * (v - low) / ((high - low) or 1.0):.2f}%"
    right = 2 * baseline > low + high  # where the label has its room on the other side
    return _HTML.whisker(
        name=f"{interval}, against {baseline:g}",
        baseline=show(baseline),
        at=at(baseline),
        dx=-4 if right else 4,
        anchor="end" if right else "start",
        low=at(interval.low),
        high=at(interval.high),
        estimate=at(interval.estimate),
    )


def _folded(content: str) -> tuple[str, str, int]:
    """A text as `folded` of page.html takes it: what is shown, what folds away, its length."""
    rest = content[_FOLD:_CUT]
    if len(content) > _CUT:
        rest += f" … ({len(content) - _CUT:,} more characters)"
    return content[:_FOLD], rest, len(content) - _FOLD


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots.

    Example:
        >>> flatten({"a": {"b": 1}, "c": 2})
        {'a.b': 1, 'c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _tone(change: float) -> Tone:
    return "good" if change > 0 else "bad" if change < 0 else "plain"


def _signed(value: float) -> str:
    return minus(f"{value:+.2f}") if abs(value) >= 0.005 else "0.00"
