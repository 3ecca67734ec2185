"""One HTML page that needs nothing else: no script, no font, no request.

A page is a title and sections, a section a heading and blocks, a block what one of
the functions here returns. They take plain values and escape them; what is markup
already is `markupsafe.Markup` and is left alone, a plain string becomes a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup, escape

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
_HEAD = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{css}</style>
</head>
""")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, sections: Sequence[Markup], *, subtitle: str = "") -> str:
    """The page, as text to `write`.

    Args:
        title: heading of the page.
        sections: from `section`.
        subtitle: one sentence below the title: what was done, to what, with what.

    Raises:
        InputError: two sections have one heading.
    """
    head = _HEAD.format(policy=_POLICY, title=title, css=Markup(CSS))
    found = [re.search(r'<section id="([^"]*)"><h2>(.*?)</h2>', s) for s in sections]
    names = {m[1]: Markup(m[2]) for m in found if m}
    if len(names) < len(sections):
        raise InputError(f"page: sections need headings of their own, got {list(names.values())}")
    links = Markup("").join(
        Markup('<a href="#{}">{}</a>').format(name, heading) for name, heading in names.items()
    )
    return str(
        head
        + Markup(
            '<body>\n<header><h1>{}</h1>{}<nav aria-label="Sections">{}</nav></header>\n'
        ).format(title, Markup("<p>{}</p>").format(subtitle) if subtitle else "", links)
        + Markup("<main>\n{}\n</main>\n</body>\n</html>\n").format(Markup("\n").join(sections))
    )


def section(heading: str, *blocks: Markup | str) -> Markup:
    """A heading and blocks; a plain string is a paragraph."""
    name = re.sub(r"\W+", "-", heading.lower()).strip("-") or "section"
    body = Markup("\n").join(b if isinstance(b, Markup) else text(b) for b in blocks)
    return Markup('<section id="{}"><h2>{}</h2>\n{}\n</section>').format(name, heading, body)


def text(paragraph: str) -> Markup:
    """A paragraph."""
    return Markup('<p class="text">{}</p>').format(paragraph)


def command(line: str) -> Markup:
    """A command line, or any text in a fixed-width font."""
    return Markup('<pre class="command">{}</pre>').format(line)


def note(message: str, tone: Tone = "plain") -> Markup:
    """A paragraph set apart: what to be aware of in what follows."""
    return Markup('<p class="note {}">{}</p>').format(tone, message)


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
    if isinstance(value, Interval):
        words = [minus(f"{v:{form}}") if form else show(v) for v in value]
        value = Markup("{} <small>{} to {}</small>").format(*words)
    below = Markup("") if drawn is None or baseline is None else _whisker(drawn, baseline)
    return Markup(
        '<div class="card {}"><div class="label">{}</div><div class="value">{}</div>'
        '{}<div class="detail">{}</div></div>'
    ).format(tone, label, show(value), below, detail)


def cards(*items: Markup) -> Markup:
    """Headline numbers side by side."""
    return Markup('<div class="cards">{}</div>').format(Markup("").join(items))


def figure(svg: str, caption: str, data: Markup | None = None) -> Markup:
    """An SVG of `irl_jax.report.plots` and its caption.

    Args:
        svg: SVG text.
        caption: what to see in it; also read out in its place.
        data: a `table` of the numbers, folded below it.
    """
    named = Markup(svg).replace("<svg ", Markup('<svg aria-label="{}" ').format(caption), 1)
    more = Markup("<details><summary>Numbers</summary>{}</details>").format(data) if data else ""
    return Markup("<figure>{}<figcaption>{}</figcaption>{}</figure>").format(named, caption, more)


def figures(*items: Markup) -> Markup:
    """Figures side by side where there is room."""
    return Markup('<div class="figures">{}</div>').format(Markup("").join(items))


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
    kind = lambda i: Markup(' class="number"') if numeric[i] else Markup("")
    line = lambda tag, row: Markup("<tr>{}</tr>").format(
        Markup("").join(
            Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), kind(i), show(cell))
            for i, cell in enumerate(row)
        )
    )
    return Markup(
        '<div class="scroll"><table><thead>{}</thead><tbody>\n{}\n</tbody></table></div>'
    ).format(line("th", columns), Markup("\n").join(line("td", row) for row in body))


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

    def chip(value: float | None, tone: str) -> Markup:
        if value is None:
            return Markup("")
        shown = Markup('<span class="chip {}" title="{}">{}</span>')
        return shown.format(tone, reward, _signed(value))

    side = lambda name, completion, value, tone: Markup(
        '<div class="side"><div class="who"><span>{}</span>{}</div>'
        '<div class="says" dir="auto">{}</div></div>'
    ).format(name, chip(value, tone), _folded(completion))
    change = lambda s: 0.0 if s.gold_before is None else s.gold_after - s.gold_before
    item = lambda s: Markup(
        '<article class="sample"><div class="prompt" dir="auto">{}</div>{}{}</article>'
    )
    blocks = [
        item(s).format(
            _folded(s.prompt),
            side("before", s.before, s.gold_before, "plain"),
            side("after", s.after, s.gold_after, _tone(change(s))),
        )
        for s in rows
    ]
    return Markup('<div class="samples">{}</div>').format(Markup("\n").join(blocks))


def key_values(mapping: Mapping[str, Any]) -> Markup:
    """A configuration: nested mappings become dotted names."""
    rows = [
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, show(value))
        for name, value in flatten(mapping).items()
    ]
    return Markup('<dl class="config">{}</dl>').format(Markup("").join(rows))


def timings(seconds: Mapping[str, float]) -> Markup:
    """How long each part took, as bars in shares of the whole.

    Args:
        seconds: part -> duration.
    """
    total = sum(seconds.values())
    row = lambda name, s: Markup(
        '<tr><td>{}</td><td class="number">{}</td><td class="share">'
        '<span style="width:{}%"></span></td><td class="number">{}</td></tr>'
    ).format(name, duration(s), f"{100 * s / total:.1f}", f"{100 * s / total:.0f} %")
    whole = Markup(
        '<tr class="total"><td>total</td><td class="number">{}</td><td></td><td></td></tr>'
    )
    return Markup('<table class="timings"><tbody>{}{}</tbody></table>').format(
        Markup("").join(row(name, s) for name, s in seconds.items() if total > 0),
        whole.format(duration(total)),
    )


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
    return Markup(
        '<svg class="whisker" role="img" aria-label="{name}"><line class="zero" x1="{z}" x2="{z}" '
        'y1="1" y2="22"/><text x="{z}" y="21" dx="{dx}" text-anchor="{anchor}">{at}</text>'
        '<line class="bar" x1="{a}" x2="{b}" y1="8" y2="8"/><circle cx="{e}" cy="8" r="4.5"/></svg>'
    ).format(
        name=f"{interval}, against {baseline:g}",
        at=show(baseline),
        dx=-4 if right else 4,
        anchor="end" if right else "start",
        z=at(baseline),
        a=at(interval.low),
        b=at(interval.high),
        e=at(interval.estimate),
    )


def _folded(content: str) -> Markup:
    """A text, its rest folded away where it is long."""
    if len(content) <= _FOLD:
        return escape(content) if content else Markup('<em class="empty">empty</em>')
    rest = content[_FOLD:_CUT]
    if len(content) > _CUT:
        rest += f" … ({len(content) - _CUT:,} more characters)"
    return Markup("{}<details><summary>{} more characters</summary>{}</details>").format(
        content[:_FOLD], show(len(content) - _FOLD), rest
    )


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
