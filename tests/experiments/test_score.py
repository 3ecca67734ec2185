from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from irl_jax.eval.edits import EDITS
from irl_jax.recipes.score import edit, main, read
from irl_jax.recipes.score_config import CONFIG, ScoreConfig
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import ROWS, write_jsonl


def lines(count: int, rng: np.random.Generator) -> list[dict]:
    """Comparisons whose chosen side is always the longer, by 1 to 20 characters."""
    words = lambda n: "Well, " + "x" * int(n)
    rows = []
    for i in range(count):
        short = rng.integers(1, 20)
        rows.append(
            {
                "id": f"q{i}",
                "prompt": f"Question {i}?",
                "chosen": words(short + rng.integers(1, 20)),
                "rejected": words(short),
                "subset": "easy" if i % 4 else "hard",
            }
        )
    return rows


def summary_of(config: ScoreConfig) -> dict:
    return json.loads((config.run_dir / "summary.json").read_text())


@pytest.fixture(scope="module")
def by_length(tmp_path_factory) -> ScoreConfig:
    """A finished run of the length reward."""
    path = tmp_path_factory.mktemp("score")
    rows = lines(40, np.random.default_rng(0))
    rows[3] = {**rows[3], "chosen": [rows[3]["chosen"]], "rejected": ["y", rows[3]["rejected"]]}
    data = write_jsonl(path / "prefs.jsonl", rows)
    config = replace(CONFIG, data=data, reward="length", edits=10, run_dir=path / "run")
    main(config)
    return config


def test_length_is_right_where_the_chosen_is_longer_and_is_found_out(by_length):
    summary = summary_of(by_length)
    assert (summary["records"], summary["prompts"], summary["responses"]) == (40, 40, 81)
    assert summary["pairs"] == 41
    assert summary["accuracy"] == summary["accuracy_over_subsets"] == [1, 1, 1]
    assert summary["chance"] == pytest.approx((39 * 0.5 + 1 / 3) / 40)
    assert {k: v["records"] for k, v in summary["subsets"].items()} == {"hard": 10, "easy": 30}
    length = summary["length"]
    assert length["correlation"] == pytest.approx([1, 1, 1])
    assert length["prefers_longer"] == length["chosen_longer"] == [1, 1, 1]
    assert length["excess"] == [0, 0, 0]
    assert length["accuracy_without"] == [0.5, 0.5, 0.5]
    assert length["accuracy_shorter"] is None
    assert summary["calibration"] is None
    assert summary["scored"] is None


def test_edits_move_length_by_what_they_add(by_length):
    summary = summary_of(by_length)
    records = read(by_length)
    edited = edit(records, 10, by_length.seed)
    assert len({e.record for e in edited}) == summary["edited_pairs"] == 10
    gap = [np.diff([len(records[e.record].responses[k]) for k in e.pair])[0] for e in edited]
    unit = np.sqrt(np.mean(np.square(gap)) / 2)
    assert summary["edits"]["trailing break"]["changed"] == 20
    assert summary["edits"]["trailing break"]["shift"] == pytest.approx([1 / unit] * 3)
    assert summary["edits"]["lower first"]["size"] == [0, 0, 0]
    assert summary["edits"]["full forms"] == {
        "changed": 0, "size": None, "shift": None, "flipped": None,
    }  # fmt: skip
    assert set(summary["edits"]) == set(EDITS)


def test_every_response_has_its_reward_on_file(by_length):
    rows = read_rows(by_length.run_dir / "scores.jsonl")
    records = read(by_length)
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(40)]
    for row, record in zip(rows, records, strict=True):
        assert row["rewards"] == [len(response) for response in record.responses]
        assert (row["chosen"], row["subset"]) == (record.chosen, record.subset)


def test_again_it_reports_what_is_there_but_not_for_other_data(by_length, capsys):
    before = (by_length.run_dir / "report.html").stat().st_mtime_ns
    main(by_length)
    said = capsys.readouterr().out
    assert "this run is complete" in said and "hard (10)" in said
    assert (by_length.run_dir / "report.html").stat().st_mtime_ns == before
    content = by_length.data.read_text()
    try:
        by_length.data.write_text(content + json.dumps({**ROWS[0], "id": "new"}) + "\n")
        with pytest.raises(InputError, match=r"^data: \S+ is another one than the run"):
            main(by_length)
    finally:
        by_length.data.write_text(content)


def test_responses_with_scores(tmp_path):
    """The length reward among four answers, of which the longest is the worst but one."""
    rows = [
        {
            "prompt": f"Question {i}?",
            "responses": ["a", "a" * (i + 4), "a" * 3, "a" * 2],
            "scores": [0, 1, 3, 2],
        }
        for i in range(6)
    ]
    data = write_jsonl(tmp_path / "scored.jsonl", rows)
    config = replace(CONFIG, data=data, reward="length", edits=0, run_dir=tmp_path / "run")
    main(config)
    summary = summary_of(config)
    # of six pairs, the two with the longest against a better one are wrong
    assert summary["accuracy"] == pytest.approx([4 / 6] * 3)
    assert (summary["pairs"], summary["chance"]) == (36, 0.5)
    scored = summary["scored"]
    assert (scored["records"], scored["responses"]) == (6, 4)
    assert scored["spearman"] == pytest.approx([0.4] * 3)
    assert scored["kendall"] == pytest.approx([1 / 3] * 3)
    best = scored["best_of_n"]
    assert best["n"] == [1, 2, 4]
    # of two: the longest is there in three of six draws
    assert [v[0] for v in best["gold"]] == pytest.approx([1.5, (3 * 1 + 2 * 3 + 2) / 6, 1.0])
    assert [v[0] for v in best["oracle"]] == pytest.approx([1.5, (3 * 3 + 2 * 2 + 1) / 6, 3.0])
    assert "Best of n" in (config.run_dir / "report.html").read_text()
    assert summary["edits"] == {}


def test_many_right_answers(tmp_path):
    """The length reward: the right answers to a tied question are 8 and 9 or 8 and 19 long."""
    rows = []
    for i, second in enumerate((9, 19, 9)):
        tied = {"chosen": ["a" * 8, "a" * second], "rejected": ["a" * 3]}
        ref = {"chosen": ["a" * 7], "rejected": ["a" * 3, "a"]}
        for form, responses in (("tied", tied), ("ref", ref)):
            row = {"id": f"{form}:{i}", "prompt": f"{form} {i}?", "subset": "Ties"}
            rows.append(row | responses)
    rows += [
        {"id": f"q{i}", "prompt": f"{i}?", "chosen": "a", "rejected": "aa", "subset": "Math"}
        for i in range(2)
    ]
    data = write_jsonl(tmp_path / "ties.jsonl", rows)
    config = replace(CONFIG, data=data, reward="length", edits=0, run_dir=tmp_path / "run")
    main(config)
    found = summary_of(config)["ties"]
    margin = (2 * np.tanh(4 / 1 - 1) + np.tanh(4 / 11 - 1)) / 3
    assert found["tied"] == found["reference"] == 1
    assert found["apart"] == found["apart_of_both"] == pytest.approx(2 / 3)
    score = 0.6 + 0.4 * 2 / 3 + 0.01 * margin
    assert found["score"][0] == pytest.approx(score)
    assert found["over_subsets"] == pytest.approx((score + 0) / 2)
    assert "Many right answers" in (config.run_dir / "report.html").read_text()


# --- scorers ----------------------------------------------------------------------------
