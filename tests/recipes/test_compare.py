from __future__ import annotations

import json
import re

import pytest

from irl_jax.recipes.compare import compare, read_runs
from irl_jax.report.page import flatten
from irl_jax.types import InputError


def write_run(path, lr, losses, summary=None, **more):
    path.mkdir(parents=True)
    config = {"loss": "dpo", "lr": lr, "data": {"path": "p"}, "sha256": {"model": str(lr)}}
    (path / "config.json").write_text(json.dumps(config))
    row = {"stage": "policy", "time": 1.0, **more}
    rows = [{**row, "step": i, "loss": x} for i, x in enumerate(losses, 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_two_runs_side_by_side(tmp_path, capsys):
    kl = [1.0, 0.5, 1.5]
    a = write_run(tmp_path / "x" / "run", 0.1, [3.0, 2.0], {"kl": kl, "report": "r.html"})
    b = write_run(tmp_path / "y" / "run", 0.25, [3.0, 1.0, 0.5])
    out = tmp_path / "new" / "page.html"
    compare([str(a), str(b), "--out", str(out)])
    shown = text_of(out.read_text())
    assert "x/run" in shown and "y/run" in shown  # as much of the path as tells them apart
    assert re.search(r"lr 0\.1 0\.25", shown)
    assert "data.path" not in shown  # is the same
    assert "1.000 [0.500, 1.500]" in shown and "r.html" not in shown
    assert "Stage: policy" in shown
    assert capsys.readouterr().out.splitlines() == [
        "",
        "  results  x/run                 y/run",
        "  kl       1.000 [0.500, 1.500]  –",
        "  settings  x/run  y/run",
        "  lr        0.1    0.25",
        f"report  {out}",
    ]


def test_a_run_keeps_its_colour_where_it_is_alone(tmp_path):
    a = write_run(tmp_path / "a", 0.1, [3.0, 2.0])
    b = write_run(tmp_path / "b", 0.25, [3.0, 1.0], kl=0.5)
    page = tmp_path / "page.html"
    compare([str(a), str(b), "--out", str(page)])
    svg = page.read_text().partition('class="plot"')[2].partition("</svg>")[0]
    assert "kl (b)" in svg
    drawn = [
        name for name in ("blue", "orange") for _ in re.findall(rf"stroke: var\(--{name}", svg)
    ]
    assert drawn == ["blue"] * 2 + ["orange"] * 3  # curve and legend, and b's curve of kl


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a"], "two or more"), (["a", "a"], "given twice"), (["a", "none"], "is no run")],
)
def test_what_are_no_two_runs(tmp_path, names, message):
    write_run(tmp_path / "a", 0.1, [1.0])
    with pytest.raises(InputError, match=message):
        compare([*(str(tmp_path / name) for name in names), "--out", str(tmp_path / "c.html")])
    assert not (tmp_path / "c.html").exists()


def test_runs_without_metrics_or_differences(tmp_path):
    paths = [write_run(tmp_path / name, 0.1, []) for name in "ab"]
    compare([*map(str, paths), "--out", str(tmp_path / "c.html")])
    shown = text_of((tmp_path / "c.html").read_text())
    assert "None of these runs is complete." in shown
    assert "All settings are the same." in shown
    assert [run.name for run in read_runs(paths)] == ["a", "b"]


def test_flat_names():
    assert flatten({"a": {"b": {"c": 1}}, "d": None}) == {"a.b.c": 1, "d": None}
