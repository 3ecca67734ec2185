import itertools
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from irl_jax.report.plots import COLOURS, INK, against_kl, against_n, intervals, lines
from irl_jax.report.series import Series
from irl_jax.types import InputError

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def series(label="s", n=12, **more):
    x = np.arange(1.0, n + 1)
    return Series(label, x, np.sin(x), **more)


def points(svg, label):
    """Positions of the points that carry a tip beginning with the label, f64[N, 2]."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None and title.text.startswith(label + " at "):
            use = next(group.iter(f"{SVG}use"))
            found.append((float(use.get("x")), float(use.get("y"))))
    return np.array(found)


def boxes(svg):
    """Text and box (left, top, right, bottom) of every label, in a font as wide as most."""
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        text, style = element.text, element.get("style")
        size = float(re.search(r"font-size: ([\d.]+)px", style)[1])
        width = len(text) * size * 0.56
        x, y = float(element.get("x")), float(element.get("y"))
        anchor = re.search(r"text-anchor: (\w+)", style)[1]
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        yield text, (left, y - 0.75 * size, left + width, y + 0.2 * size)


def test_points_stand_where_the_numbers_say():
    n, y = np.array([1.0, 2, 4, 8, 16]), np.array([0.0, 1, 4, 2, 3])
    xy = points(against_n({"gold": [Series("a", n, y)]}), "a")
    steps = np.diff(xy[:, 0])
    assert steps == pytest.approx(np.full(4, steps[0]), abs=0.02)
    scale = (xy[1, 1] - xy[0, 1]) / (y[1] - y[0])
    assert scale < 0  # up is more
    assert xy[:, 1] - xy[0, 1] == pytest.approx(scale * y, abs=0.03)


def test_kl_is_on_a_square_root_axis_and_never_below_0():
    kl = np.array([-0.3, 0.0, 1.0, 4.0, 9.0])
    svg = against_kl({"gold": [Series("a", kl, kl)], "learned": [Series("b", kl, kl)]})
    xy = points(svg, "a")
    right = xy[:, 0] - xy[0, 0]
    texts = ET.fromstring(svg).iter(f"{SVG}text")
    ticks = [e.text for e in texts if "text-anchor: middle" in e.get("style")]
    assert ticks == ["0", "0.2", "0.5", "1", "2", "5"]
    assert right / right[2] == pytest.approx([0, 0, 1, 2, 3], abs=1e-3)


def test_a_noisy_trajectory_is_dots_and_the_line_of_its_means():
    kl = np.linspace(0, 9, 160)
    noise = np.tile([1.0, -1.0], 80)
    xy = points(against_kl({"gold": [Series("a", kl, 2 * np.sqrt(kl) + noise)]}), "a")
    assert len(xy) == 16
    slope = np.diff(xy[2:, 1]) / np.diff(xy[2:, 0])  # of reward over √KL: the noise is gone
    assert slope == pytest.approx(np.full(13, slope.mean()), rel=0.05)


def test_points_tell_their_value_and_interval():
    s = Series("gold", np.array([2.0]), np.array([0.5]), np.array([0.25]), np.array([0.75]))
    assert "<title>gold at 2: 0.5 [0.25, 0.75]</title>" in against_n({"y": [s, series("t")]})


def test_every_colour_is_a_variable_of_the_page():
    many = [series(str(i)) for i in range(8)] + [series("r", reference=True)]
    svg = lines({"y": many}, x="update")
    bare = re.sub(r"var\(--[a-z]+,#[0-9a-f]{6}\)", "", svg)
    assert not re.search(
        r"#[0-9a-f]{6}\b(?!\")|#000|black|rgb", re.sub(r'(href=|url\()"?#\w+', "", bare)
    )
    assert {m for m in re.findall(r"var\(--([a-z]+)", svg)} == {*COLOURS, *INK}
    assert "font-family: " not in svg
    assert "<style" not in svg


def test_a_quantity_keeps_its_colour_and_a_reference_is_muted():
    svg = lines(
        {"y": [series("a", colour="green"), series("b"), series("c", reference=True)]}, x="x"
    )
    strokes = re.findall(r"fill: none; stroke(?:-dasharray: [\d. ,]+)?[^\"]*?stroke: var\(--(\w+)|"
                         r"fill: none; stroke: var\(--(\w+)", svg)  # fmt: skip
    used = [a or b for a, b in strokes]
    assert {"green", "blue", "muted"} <= set(used)
    assert "orange" not in used


def test_text_is_text_whatever_it_is():
    label = '<script>alert(1)</script> & $x_1$ id="q" #2563eb 0.12345'
    svg = against_n({label: [series(label), series("b")]}, x=label)
    root = ET.fromstring(svg)
    texts = [e.text for e in root.iter(f"{SVG}text")]
    assert texts.count(label) == 3  # heading, legend, x axis
    assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize(
    ("top", "label"),
    [(1.0, "0.5"), (-5000.0, "−4000"), (2.5e4, "20k"), (-4e6, "−4M"), (2e9, "2G"),
     (4e-4, "2e−4"), (-1e-7, "−5e−8"), (3e15, "2e15")],
)  # fmt: skip
def test_tick_labels_are_short(top, label):
    svg = lines({"y": [Series("a", np.arange(2.0), np.array([0.0, top]))]}, x="x")
    texts = [e.text for e in ET.fromstring(svg).iter(f"{SVG}text")]
    assert label in texts
    assert max(map(len, texts)) <= 7


@pytest.mark.slow
def test_the_same_input_gives_the_same_text_in_another_process():
    code = (
        "import numpy as np; from irl_jax.report.plots import lines;"
        "from irl_jax.report.series import Series; x = np.arange(5.);"
        "print(lines({'a': [Series('s', x, x, x - 1, x + 1)]}, x='u'))"
    )
    x = np.arange(5.0)
    here = lines({"a": [Series("s", x, x, x - 1, x + 1)]}, x="u")
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert there.stdout == here + "\n"


def test_ids_are_defined_once_and_differ_between_figures():
    a, b = {"y": [series("a")]}, {"y": [series("b")]}
    figures = [against_n(a), against_n(b), lines(a, x="x")]
    seen = []
    for svg in figures:
        root = ET.fromstring(svg)
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        used = {e.get(LINK)[1:] for e in root.iter() if e.get(LINK)}
        used |= set(re.findall(r"url\(#([^)]+)\)", svg))
        assert len(set(ids)) == len(ids)
        assert used == set(ids)
        seen += ids
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("labels", "magnitude"),
    [
        (["a"], 1.3e-5),
        (["learned reward selects", "oracle: gold selects", "random"], -3e5),
        ([f"a label of some forty characters, number {i}" for i in range(4)], 0.1),
        ([f"seed {i}" for i in range(9)], 1.0),
    ],
)
def test_no_label_covers_another_or_leaves_the_figure(labels, magnitude):
    curves = [
        Series(s, np.arange(1.0, 17), magnitude * np.arange(16) + i) for i, s in enumerate(labels)
    ]
    heading = "gold reward of the selected completion"
    for svg in (
        lines({heading: curves, "KL (nats)": curves[:1], "length (tokens)": curves}, x="update"),
        against_n({heading: curves}),
        against_kl({heading: curves, "b": curves}),
    ):
        placed = list(boxes(svg))
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        for text, (left, top, right, bottom) in placed:
            assert min(left, top) >= 0 and right <= width and bottom <= height, text
        for (a, (l1, t1, r1, b1)), (b, (l2, t2, r2, b2)) in itertools.combinations(placed, 2):
            assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (a, b)


@pytest.mark.parametrize(
    "curve",
    [
        Series("one point", np.ones(1), np.ones(1)),
        Series("constant", np.arange(1.0, 4), np.zeros(3)),
        Series("gap", np.arange(1.0, 4), np.array([1, np.nan, 2])),
        Series("nothing known", np.arange(1.0, 4), np.full(3, np.nan)),
        Series("all at 0", np.zeros(2), np.ones(2)),
    ],
)
def test_degenerate_curves_are_drawn(curve, recwarn):
    drawn = [lines({"y": [curve]}, x="x"), against_kl({"y": [curve]})]
    if curve.x.min() > 0:
        drawn.append(against_n({"y": [curve]}))
    for svg in drawn:
        ET.fromstring(svg)
        assert "nan" not in svg.lower()
        assert "inf" not in svg
    assert not recwarn.list


def test_long_runs_stay_small():
    n = 100_000
    svg = lines({"loss": [series("a", n, low=np.zeros(n), high=np.ones(n))]}, x="update")
    assert len(svg) < 60_000


def test_intervals_stand_in_rows_from_the_top():
    svg = intervals({"a": [1.0, 0.5, 2.0], "b & c": [3.0, 3.0, 3.0], "d": [-1, -2, 0]}, x="return")
    places, tips = [], []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            use = next(group.iter(f"{SVG}use"))
            places.append((float(use.get("x")), float(use.get("y"))))
            tips.append(title.text)
    assert tips == ["a: 1 [0.5, 2]", "b & c: 3 [3, 3]", "d: -1 [-2, 0]"]
    (ax, ay), (bx, by), (dx, dy) = places
    assert dx < ax < bx and ay < by < dy
    assert (bx - ax) / (ax - dx) == pytest.approx(1.0, abs=0.01)
    texts = [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"a", "b & c", "d", "return"} <= set(texts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals({}, x="x"), "at least one row"),
        (lambda: lines({}, x="x"), "at least one panel"),
        (lambda: lines({"y": []}, x="x"), "one curve in each"),
        (lambda: against_n({"y": [Series("a", np.zeros(1), np.ones(1))]}), "n must be positive"),
        (lambda: lines({"y": [series(colour="red")]}, x="x"), "series 's': no colour 'red'"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()
