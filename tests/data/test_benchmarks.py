"""Benchmarks' files in their publishers' formats: records, and other versions in one line."""

from __future__ import annotations

import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from irl_jax.data.benchmarks import BENCHMARKS, read_benchmark
from irl_jax.types import InputError
from tests.data.publishers import ROWS


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_benchmark_has_lines_here():
    assert set(ROWS) == set(BENCHMARKS)


@pytest.mark.parametrize("form", ["jsonl", "array", "parquet"])
@pytest.mark.parametrize("name", ROWS)
def test_records_of_every_benchmark(name, form, tmp_path):
    rows = ROWS[name]()
    if form == "parquet":
        path = tmp_path / "data" / "test-00000-of-00001.parquet"
        path.parent.mkdir()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        path = tmp_path
    elif form == "array":
        path = tmp_path / "x.json"
        path.write_text(json.dumps(rows, indent=1))
    else:
        path = write(tmp_path / "x.jsonl", rows)
    records = list(read_benchmark(name, path))
    kept = [r for r in rows if not str(r.get("winner")).startswith("tie")]
    assert len(records) == len(kept) == (12 if name == "ppe-preference" else 20)
    for row, record in zip(kept, records, strict=True):
        assert record.prompt == row.get("question", row.get("prompt"))
        assert record.id == str(row.get("pair_id", row.get("question_id", row.get("id"))))
        if name == "ppe-correctness":
            assert record.responses == [row[f"response_{k}"] for k in range(1, 5)]
            assert record.scores == [float(score) for score in row["scores"]]
            continue
        assert record.scores is None
        kinds = [response.split()[0] for response in record.responses]
        n, m = {"rm-bench": (3, 3)}.get(name, (row.get("num_correct", 1), 1))
        m = 3 if name == "rewardbench-2" else m
        assert kinds == ["right"] * n + ["wrong"] * m and record.chosen == n
    place = {"jsonl": "1", "array": "item 1"}.get(form, "test-00000-of-00001.parquet:row 1")
    assert records[0].source == f"{path}:{place}"


def test_subsets(tmp_path):
    found = {}
    for name, make in ROWS.items():
        records = read_benchmark(name, write(tmp_path / "x.jsonl", make()))
        found[name] = sorted({record.subset for record in records})
    assert found["judgebench"] == ["coding", "knowledge", "math", "reasoning"]
    assert found["rm-bench"] == ["chat", "code", "math", "safety-refuse", "safety-response"]
    assert found["rewardbench-2"] == ["Factuality", "Math", "Precise IF", "Ties"]
    assert len(found["rewardbench"]) == 5
    assert found["ppe-preference"] == found["ppe-correctness"] == ["all"]


@pytest.mark.parametrize("name", ROWS)
def test_another_version_is_told_by_its_field(name, tmp_path):
    benchmark = BENCHMARKS[name]
    for lost in benchmark.fields:
        rows = [{k: v for k, v in row.items() if k != lost} for row in ROWS[name]()]
        path = write(tmp_path / "x.jsonl", rows)
        with pytest.raises(InputError) as error:
            list(read_benchmark(name, path))
        said = str(error.value)
        assert said.startswith(f"{path}:1: no field `{lost}` (fields: ") and "\n" not in said
        assert f"expected a line of {benchmark.title}, {benchmark.place}, with " in said


OTHERS = {
    "rewardbench": ({"subset": "Factuality"}, r'`subset` is "Factuality"; .*RewardBench 1'),
    "rewardbench-2": ({"num_correct": 2}, r"1 `chosen` and `num_correct` 2; .*RewardBench 2"),
    "rm-bench": ({"chosen": ["a", "b"]}, r"`chosen` is no list of 3 responses; .*RM-Bench"),
    "judgebench": ({"label": "A=B"}, r'`label` is "A=B"; .*JudgeBench'),
    "ppe-preference": ({"winner": "a"}, r'`winner` is "a"; .*PPE, human'),
    "ppe-correctness": ({"scores": [True] * 5}, r"5 `scores` and 4 responses; .*PPE, correct"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_value_of_another_version_is_told(name, tmp_path):
    change, says = OTHERS[name]
    rows = ROWS[name]()
    rows[2] = rows[2] | change if name != "ppe-preference" else rows[1] | change
    path = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(InputError, match=re.escape(f"{path}:3: ") + says):
        list(read_benchmark(name, path))


def test_further_values_of_another_version(tmp_path):
    def fails(name, says, **change):
        path = write(tmp_path / "x.jsonl", [ROWS[name]()[0] | change])
        with pytest.raises(InputError, match=says):
            list(read_benchmark(name, path))

    fails("rewardbench-2", "`subset` is", subset="Chat")
    fails("rewardbench-2", "no list of `chosen`", chosen="one")
    fails("rm-bench", "`domain` is", domain="law")
    fails("judgebench", "`source` is", source="mmlu")
    fails("ppe-correctness", "0 `scores`", scores="1")
    with pytest.raises(InputError, match=r"benchmark: no 'x'; expected one of rewardbench, "):
        list(read_benchmark("x", tmp_path))
    path = tmp_path / "x.json"
    for text, says in (("[1]", "item 1: 1; expected an object"), ("[]", "an empty list")):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            list(read_benchmark("rm-bench", path))
    path.write_text("[{")
    with pytest.raises(InputError, match=r"x\.json: broken JSON"):
        list(read_benchmark("rm-bench", path))
