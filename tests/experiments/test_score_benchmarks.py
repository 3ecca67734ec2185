"""`irl-jax score --benchmark`: the published aggregate of a reward that is known, the length."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from irl_jax.data.benchmarks import BENCHMARKS
from irl_jax.data.process_files import PROCESS_FILES
from irl_jax.eval.benchmarks import PUBLISHED
from irl_jax.recipes.score import main
from irl_jax.recipes.score_config import CONFIG
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.data.publishers import ROWS
from tests.experiments.conftest import write_jsonl
from tests.oracles import benchmarks as oracle


def lengthened(value, rng):
    """The line with responses of other lengths, so that the length orders some of them."""
    if isinstance(value, list):
        return [lengthened(item, rng) for item in value]
    known = isinstance(value, str) and value.split()[0] in ("right", "wrong", "answer")
    return value + "x" * int(rng.integers(1, 6)) if known else value


def expected(name, rows):
    """The oracle's overall number of the scores that were written."""
    rewards = [row["rewards"] for row in rows]
    subsets = [row["subset"] for row in rows]
    pairs = list(zip(subsets, rewards, strict=True))
    if name == "rewardbench":
        return oracle.rewardbench([(s, *r) for s, r in pairs])["overall"]
    if name == "rm-bench":
        return oracle.rm_bench([(s, r[:3], r[3:]) for s, r in pairs])["overall"]
    if name == "judgebench":
        return np.mean([a > b for a, b in rewards])
    return np.mean([(np.sign(a - b) + 1) / 2 for a, b in rewards])


@pytest.mark.parametrize("name", ["rewardbench", "rm-bench", "judgebench", "ppe-preference"])
def test_the_aggregate_is_reported_beside_a_published_one(name, tmp_path, capsys):
    rng = np.random.default_rng(3)
    rows = [{k: lengthened(v, rng) for k, v in row.items()} for row in ROWS[name]()]
    data = write_jsonl(tmp_path / "x.jsonl", rows)
    run = tmp_path / "run"
    main(replace(CONFIG, data=data, benchmark=name, reward="length", edits=0, run_dir=run))
    found = json.loads((run / "summary.json").read_text())["benchmark"]
    assert 0 < found["overall"][0] < 1
    scored = read_rows(run / "scores.jsonl")
    assert found["overall"][0] == pytest.approx(expected(name, scored), abs=1e-9)
    said, page = capsys.readouterr().out, (run / "report.html").read_text()
    assert found["title"] == BENCHMARKS[name].title and found["title"] in said
    assert f"By the rule of the publisher of {BENCHMARKS[name].place}" in page
    if name in PUBLISHED:
        assert found["published"]["value"] == PUBLISHED[name].value
        assert f"{PUBLISHED[name].model}, published" in said and PUBLISHED[name].model in page
    else:
        assert found["published"] is None and "No published number was found" in page
    if name == "rm-bench":
        assert "20 records; the whole benchmark has 1327." in page
    if found["missing"]:
        assert f"no record of {found['missing'][0]}" in page


def test_ties_have_the_place_of_their_accuracy(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{k: lengthened(v, rng) for k, v in row.items()} for row in ROWS["rewardbench-2"]()]
    data, run = write_jsonl(tmp_path / "x.jsonl", rows), tmp_path / "run"
    main(replace(CONFIG, data=data, benchmark="rewardbench-2", reward="length", edits=0,
                 run_dir=run))  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    found = summary["benchmark"]
    assert found["parts"]["Ties"] == summary["ties"]["score"][0]
    others = oracle.best_of(
        [(r["subset"], r["rewards"]) for r in read_rows(run / "scores.jsonl") if r["chosen"] == 1]
    )
    own = [others[s] for s in ("Factuality", "Math", "Precise IF")]
    assert found["overall"] == pytest.approx(np.mean([*own, found["parts"]["Ties"]]))
    assert found["missing"] == ["Safety", "Focus"]


def test_correctness_has_the_curve_of_best_of_n_too(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{k: lengthened(v, rng) for k, v in row.items()} for row in ROWS["ppe-correctness"]()]
    data, run = write_jsonl(tmp_path / "x.jsonl", rows), tmp_path / "run"
    main(replace(CONFIG, data=data, benchmark="ppe-correctness", reward="length", edits=0,
                 run_dir=run))  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    assert summary["benchmark"]["overall"][0] == pytest.approx(summary["accuracy"][0])
    assert summary["scored"]["best_of_n"]["n"] == [1, 2, 4]


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    for name in PROCESS_FILES:
        with pytest.raises(InputError, match="needs a reward of steps, and a length reward of"):
            replace(CONFIG, benchmark=name, reward="length")
    with pytest.raises(InputError, match="benchmark: no 'rewardbench-3'; expected one of"):
        replace(CONFIG, benchmark="rewardbench-3")
    with pytest.raises(InputError, match="scores: a benchmark's sides are not swapped"):
        replace(CONFIG, benchmark="rm-bench", scores="swap")
    data, run = write_jsonl(tmp_path / "x.jsonl", ROWS["rewardbench"]()), tmp_path / "run"
    with pytest.raises(InputError, match=r"x\.jsonl:1: no field `domain`"):
        main(replace(CONFIG, data=data, benchmark="rm-bench", reward="length", run_dir=run))
    assert not run.exists()
