"""Parquet and Arrow: the rows that a JSON Lines file of the same examples gives, or one line."""

from __future__ import annotations

import builtins
import datetime
import hashlib
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from irl_jax.data.evaluation import read_evaluation
from irl_jax.data.jsonl import read_demonstrations, read_preferences, read_prompts
from irl_jax.data.judged import read_ratings, read_steps
from irl_jax.data.kinds import guess
from irl_jax.data.lines import read_objects
from irl_jax.data.parquet import content_sha256, table_files
from irl_jax.train.inputs import sha256_of
from irl_jax.types import InputError

TURN = [{"role": "user", "content": "Hi"}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock"}]}
FORMS = {
    "pairs": (
        read_preferences,
        [
            {"prompt": TURN, "chosen": [CALL], "rejected": [{"role": "assistant", "content": "b"}],
             "margin": 2.0},
            {"prompt": TURN, "chosen": [{"role": "assistant", "content": "a"}], "rejected": [CALL]},
        ],
    ),
    "ratings": (read_ratings, [{"prompt": "p", "completion": c, "label": c == "a"} for c in "ab"]),
    "steps": (
        read_steps,
        [{"prompt": "p", "completions": ["a", "b"], "labels": [True, None]}] * 2,
    ),
    "demonstrations": (
        read_demonstrations,
        [{"messages": [*TURN, {"role": "assistant", "content": "a"}]}],
    ),
    "prompts": (read_prompts, [{"prompt": TURN, "answer": 3}, {"prompt": TURN, "answer": 4}]),
}  # fmt: skip


def write(path, rows, form="parquet"):
    table = pyarrow.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        new = pyarrow.ipc.new_stream if form == "stream" else pyarrow.ipc.new_file
        with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def without_source(record):
    return {k: v for k, v in vars(record).items() if k != "source"}


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
@pytest.mark.parametrize("kind", FORMS)
def test_every_kind_reads_as_from_json_lines(kind, form, tmp_path):
    read, rows = FORMS[kind]
    lines = tmp_path / "x.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write(tmp_path / ("x.parquet" if form == "parquet" else "x.arrow"), rows, form)
    found, expected = list(read(path)), list(read(lines))
    assert [without_source(r) for r in found] == [without_source(r) for r in expected]
    assert [r.source for r in found] == [f"{path}:row {i + 1}" for i in range(len(rows))]
    assert guess(path).name == kind


def test_a_field_that_is_null_is_left_out_and_other_types_are_text(tmp_path):
    rows = [
        {"a": None, "b": {"c": None, "d": [1, None]}, "e": datetime.date(2024, 5, 1)},
        {"a": 1.5, "b": None, "e": None},
    ]
    found = [row for _, row in read_objects(write(tmp_path / "x.parquet", rows))]
    assert found == [{"b": {"d": [1, None]}, "e": "2024-05-01"}, {"a": 1.5}]


def test_a_directory_is_its_shards_in_order(tmp_path):
    data = tmp_path / "set" / "data"
    for i in (1, 0):
        rows = [{"prompt": f"{i}{j}"} for j in range(2)]
        write(data / f"train-0000{i}-of-00002.parquet", rows)
    (tmp_path / "set" / "README.md").write_text("a card")
    write(data / "cache-1.arrow", [{"prompt": "cached"}], "stream")
    for path in (tmp_path / "set", data, data / "train"):
        records = list(read_prompts(path))
        assert [r.prompt for r in records] == ["00", "01", "10", "11"]
        assert records[2].source == f"{path}:train-00001-of-00002.parquet:row 1"


def test_a_split_is_asked_for_where_there_are_several(tmp_path):
    for name in ("raw", "filtered"):
        write(tmp_path / "data" / f"{name}-00000-of-00001.parquet", [{"prompt": name}])
    says = f"{tmp_path}: holds several splits, filtered, raw; give one, as {tmp_path}/data/filtered"
    with pytest.raises(InputError, match=re.escape(says)):
        list(read_prompts(tmp_path))
    assert [r.prompt for r in read_prompts(tmp_path / "data" / "raw")] == ["raw"]


def test_what_cannot_be_read_is_said_in_a_line(tmp_path, monkeypatch):
    def fails(path, message):
        with pytest.raises(InputError) as error:
            list(read_objects(path))
        assert re.search(message, str(error.value)) and "\n" not in str(error.value)

    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "is a directory without Parquet or Arrow files.*give one that has")
    fails(tmp_path / "none.parquet", r"none\.parquet: no such file")
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    fails(broken, r"x\.parquet: cannot be read \(.*\); check the file")
    cut = write(tmp_path / "c.arrow", [{"a": "b" * 999}] * 9, "stream")
    cut.write_bytes(cut.read_bytes()[:2000])
    fails(cut, r"c\.arrow: cannot be read")
    fails(write(tmp_path / "n.parquet", [{"a": 1}][:0]), "holds no rows")
    write(tmp_path / "part" / "train-00001-of-00003.parquet", [{"a": 1}])
    fails(tmp_path / "part", r"has 1 of 3 files, as train-00001-of-00003\.parquet says")
    bad = write(tmp_path / "b.parquet", [{"prompt": "p", "chosen": "c"}])
    with pytest.raises(InputError, match=r"b\.parquet:row 1: no field `rejected`"):
        list(read_preferences(bad))
    with pytest.raises(InputError, match=r"b\.parquet:row 1: no field `rejected`"):
        list(read_evaluation(bad))

    def missing(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    fails(bad, r"b\.parquet: reading Parquet or Arrow needs pyarrow; install irl_jax\[parquet\]")


def test_parquet_is_known_by_its_content(tmp_path):
    path = write(tmp_path / "data", [{"a": 1}])
    assert table_files(path) == [path]
    assert list(read_objects(path)) == [("row 1", {"a": 1})]


def test_content_is_that_of_the_shards_by_name(tmp_path):
    data = tmp_path / "set" / "data"
    shards = [write(data / f"t-0000{i}-of-00002.parquet", [{"a": i}]) for i in range(2)]
    (data / "notes.txt").write_text("unread")
    sha = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    lines = "".join(f"{sha(path)}  {path.name}\n" for path in shards)
    known = hashlib.sha256(lines.encode()).hexdigest()
    for path in (tmp_path / "set", data, data / "t"):
        assert content_sha256(path) == sha256_of(path, "data.path") == known
    assert content_sha256(shards[0]) == sha256_of(shards[0], "data.path") == sha(shards[0])
    write(shards[1], [{"a": 2}])
    assert sha256_of(data, "data.path") != known
