import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.report import page as p
from irl_jax.report.plots import COLOURS, INK, lines
from irl_jax.report.series import Series
from irl_jax.report.style import CSS
from irl_jax.types import InputError

VOID = {"meta", "link", "br", "hr", "img", "input"}
EVIL = "<script>alert('x')</script>\"'&<img src=http://x/y onerror=z>"


class Reader(HTMLParser):
    """Checks that tags nest, and collects what a browser would see."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def figure(label="s", n=5):
    x = np.arange(float(n))
    return lines({label: [Series(label, x, np.sin(x), x - 1, x + 1)]}, x="update")


def everything(text, svg):
    number = p.table([text, "n"], [[text, 1], [None, 2.5]])
    return p.page(text, [
        p.section(text, text, p.text(text), p.command(text), p.note(text, "bad")),
        p.section("Result", p.cards(p.card(text, text, text, interval=Interval(1.0, 0.5, 1.5)))),
        p.section("Figures", p.figures(p.figure(svg, text, number))),
        p.section("Samples", p.samples([p.Sample(text, text * 100, "", 0.0, 1.0)], reward=text)),
        p.section("Config", p.key_values({text: {text: text}}), p.timings({text: 3.0})),
    ], subtitle=text)  # fmt: skip


def test_tags_nest_and_everything_is_shown():
    reader = Reader(everything("plain text", figure()))
    text = " ".join(reader.text)
    assert "500 more characters" not in text
    assert "400 more characters" in text
    for shown in ("1.000", "update", "empty", "+1.00", "3.0 s", "100 %", "2.5", "–"):
        assert shown in text or shown in str(reader.attributes), shown


def test_text_cannot_become_markup():
    reader = Reader(everything(EVIL, figure(EVIL)))
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert EVIL in reader.text


def test_nothing_is_requested():
    html = everything("a", figure())
    for name, value in Reader(html).attributes:
        if name in ("href", "xlink:href", "src"):
            assert value.startswith(("#", "data:")), value
    addresses = set(re.findall(r"https?://[^\"'\s)]+", html))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in html
    assert "url(" not in CSS
    policy = dict(Reader(html).attributes)["content"]
    assert policy.startswith("default-src 'none'; ")


def test_ids_are_unique_and_links_lead_somewhere():
    html = p.page("t", [
        p.section("One & two", p.figure(figure("a"), "a"), p.figure(figure("b"), "b")),
        p.section("Über α", p.text("x")),
    ])  # fmt: skip
    attributes = Reader(html).attributes
    ids = [value for name, value in attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    links = [v[1:] for n, v in attributes if n == "href" and v.startswith("#")]
    assert links == ["one-two", "über-α"]
    assert set(links) <= set(ids)
    with pytest.raises(InputError, match="sections need headings of their own"):
        p.page("t", [p.section("A", "x"), p.section("a", "y")])


def test_the_same_input_gives_the_same_page():
    assert everything("a", figure()) == everything("a", figure())


def test_a_rich_report_stays_under_a_megabyte():
    figures = [p.figure(figure(f"run {i}", 20_000), "c") for i in range(8)]
    sample = p.Sample("prompt " * 50, "word " * 20_000, "word " * 300, 0.0, 1.0)
    html = p.page(
        "t", [p.section("F", p.figures(*figures)), p.section("S", p.samples([sample] * 64))]
    )
    assert len(html.encode()) < 1_000_000
    assert "94,000 more characters" in html


def test_write_is_whole_or_not_at_all(tmp_path):
    p.write(tmp_path / "report.html", "grüße \ud800")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "grüße ?"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"report\.html.*: cannot write"):
        p.write(tmp_path / "file" / "report.html", "x")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "report.html"]


def test_whisker_draws_the_interval_to_scale():
    html = p.card("a", 1, interval=Interval(2.5, 1.5, 4.5), baseline=0.5)
    at = lambda name: float(re.search(rf'{name}="([\d.]+)%"', html.split('class="bar"')[1])[1])
    zero = float(re.search(r'class="zero" x1="([\d.]+)%', html)[1])
    low, high, mean = at("x1"), at("x2"), at("cx")
    assert (high - zero) / (low - zero) == pytest.approx(4, abs=0.01)
    assert (mean - zero) / (low - zero) == pytest.approx(2, abs=0.01)
    assert 0 <= zero < high <= 100
    Reader(p.card("a", 1, interval=Interval(0.0, 0.0, 0.0)))


def test_card_of_an_interval_shows_the_estimate_first():
    html = p.card("a", Interval(38.9581, -1.0, 40.0))
    assert '<div class="value">38.96 <small>−1 to 40</small></div>' in html


def test_card_draws_its_interval_unless_no_baseline_means_anything():
    html = p.card("a", [0.25, 0.125, 0.5], form=".1%", baseline=0.5)
    assert '<div class="value">25.0% <small>12.5% to 50.0%</small></div>' in html
    assert html == p.card("a", Interval(0.25, 0.125, 0.5), form=".1%", baseline=0.5)
    assert "against 0.5" in html
    assert "whisker" not in p.card("a", Interval(0.25, 0.125, 0.5), baseline=None)
    assert "whisker" not in p.card("a", 0.25)


def test_samples_mark_what_got_better():
    chips = lambda a, b: re.findall(
        r'class="chip (\w+)"', p.samples([p.Sample("p", "b", "a", a, b)])
    )
    assert chips(0.1, 0.9) == ["plain", "good"]
    assert chips(0.9, 0.1) == ["plain", "bad"]
    assert chips(0.5, 0.5) == ["plain", "plain"]


def test_table_puts_numbers_right_and_keeps_markup():
    html = p.table(["name", "value", "link"], [["a", 0.5, Markup("<b>x</b>")], ["b", None, "<b>"]])
    assert html.count('<td class="number">') == 2
    assert "<b>x</b>" in html
    assert "&lt;b&gt;" in html
    assert "<tbody>" in p.table(["a"], [])
    with pytest.raises(ValueError, match="zip"):
        p.table(["a", "b"], [[1, 2], [3]])


def test_table_takes_its_cells_by_key_or_by_function():
    columns = {"name": "id", "accuracy": "acc", "half": lambda row: row["n"] / 2}
    html = p.table(columns, [{"id": "a", "acc": [0.5, 0.25, 1.0], "n": 3}])
    assert html == p.table(list(columns), [["a", Interval(0.5, 0.25, 1.0), 1.5]])
    with pytest.raises(KeyError, match="id"):
        p.table(columns, [{"acc": 1.0, "n": 3}])


def test_key_values_flatten_to_flags():
    html = p.key_values({"seed": 0, "optim": {"lr": 1e-4, "clip": {"norm": None}}, "on": True})
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html) == [
        ("seed", "0"), ("optim.lr", "0.0001"), ("optim.clip.norm", "–"), ("on", "yes"),
    ]  # fmt: skip


def test_timings_share_the_whole():
    html = p.timings({"a": 30.0, "b": 90.0})
    assert re.findall(r"width:([\d.]+)%", html) == ["25.0", "75.0"]
    assert "2 min 0 s" in html
    Reader(p.timings({"nothing": 0.0}))


# the style sheet


def theme(dark):
    css = CSS.split("prefers-color-scheme: dark")[1].split("}")[0] if dark else CSS.split("}")[0]
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css))


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_themes_are_legible(dark):
    """WCAG 2.1: 4.5 for text, 3 for lines that mean something."""
    t = theme(dark)
    for text in ("ink", "soft", "muted", "good", "bad", "accent"):
        assert contrast(t[text], t["page"]) >= 4.5, text
        assert contrast(t[text], t["panel"]) >= 4.5, text
    for line in COLOURS:
        assert contrast(t[line], t["page"]) >= 3, line
        assert contrast(t[line], t["panel"]) >= 3, line
    assert contrast(t["good"], t["good-back"]) >= 4.5
    assert contrast(t["bad"], t["bad-back"]) >= 4.5
    assert contrast(t["ink"], t["good-back"]) >= 4.5


def test_every_variable_is_defined_in_both_themes():
    light, dark = theme(False), theme(True)
    assert set(light) == set(dark)
    used = set(re.findall(r"var\(--([a-z-]+)", CSS)) | set(COLOURS) | set(INK)
    assert used <= set(light) | {"mono"}
    assert {name: light[name] for name in {**COLOURS, **INK}} == {**COLOURS, **INK}


def test_a_gain_of_a_policy_that_has_not_moved_is_not_shown_as_one():
    up, still, far = Interval(0.1, 0.01, 0.2), Interval(0.0, -0.1, 0.1), Interval(3.0, 2.0, 4.0)
    assert p.gain_tone(up, far) == p.gain_tone(up, None) == "good"
    assert p.gain_tone(Interval(-0.1, -0.2, -0.01), far) == "bad"
    assert p.gain_tone(up, still) == p.gain_tone(still, far) == "plain"
    assert "No gain, the policy has not moved: its KL, 0.000 [-0.100, 0.100]" in p.standstill(still)
    assert p.standstill(far) == p.standstill(None) == ""
