"""TFDS builders over JSON Lines: contents, cache, interruption, splits."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from irl_jax.data import builders
from irl_jax.data.builders import prepare, split_by_prompt
from irl_jax.data.jsonl import PromptRecord, read_preferences
from irl_jax.data.kinds import KINDS
from irl_jax.types import InputError

PAIRS = KINDS["pairs"]
MESSAGES = [{"role": "user", "content": "é 👍"}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(prompt, i):
    return {"prompt": prompt, "chosen": f"c{i}", "rejected": f"r{i}", "margin": i / 2}


@pytest.fixture
def pairs(tmp_path):
    """40 pairs of 20 prompts, one of them of messages."""
    rows = [pair(f"p{i % 20}", i) for i in range(40)]
    rows[7]["prompt"] = MESSAGES
    rows[7]["weight"] = 0.25
    return write(tmp_path / "pairs.jsonl", rows)


def files(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def both(kind, path, cache, **options):
    """The sides as they are read and as the cache has them, which are the same."""
    read = prepare(kind, path, cache, seed=0, **options)
    kept = prepare(kind, path, cache, seed=0, **options)
    assert [type(side) for side in kept] == [builders.Records] * 2
    assert [list(side) for side in kept] == [list(side) for side in read]
    return kept


def test_records_are_those_of_the_file(pairs, tmp_path):
    train, held_out = both(PAIRS, pairs, tmp_path / "cache", fraction=0.3)
    expected = split_by_prompt(read_preferences(pairs), fraction=0.3, seed=0)
    assert (list(train), list(held_out)) == expected
    assert len(train) + len(held_out) == 40 and len(held_out) > 0
    assert train[-1] == list(train)[-1] and train[1:3] == list(train)[1:3]
    with pytest.raises(IndexError):
        train[len(train)]


EXAMPLES = {
    "pairs": {"prompt": MESSAGES, "chosen": "c", "rejected": "r", "margin": 0.1, "weight": 1e-30},
    "ratings": {"prompt": "p", "completion": "é", "score": 0.1},
    "rankings": {"prompt": "p", "responses": ["a", "b"], "ranking": [2, 1]},
    "scored": {"prompt": MESSAGES, "responses": ["a", "b"], "scores": [0.1, -3]},
    "steps": {"prompt": "p", "completions": ["a", "b"], "labels": [None, 0.1]},
    "demonstrations": {"messages": [*MESSAGES, {"role": "assistant", "content": "a"}]},
    "prompts": {"prompt": "p", "answer": {"n": [1, None, 0.1, 10**40], "é": "\ud83d\ude00"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_kept_as_it_was_read(name, tmp_path):
    row = EXAMPLES[name] | {"tools": [{"name": "t"}]}
    file = write(tmp_path / "a.jsonl", [row] * 3)
    train, held_out = both(KINDS[name], file, tmp_path / "cache", fraction=0.0)
    assert list(train) == list(KINDS[name].read(file)) and len(held_out) == 0
    assert [record.source for record in train] == [f"{file}:{i}" for i in (1, 2, 3)]


def test_options_of_the_reader(tmp_path):
    file = write(tmp_path / "steps.jsonl", [EXAMPLES["steps"]])
    found = [
        both(KINDS["steps"], file, tmp_path / "cache", fraction=0.0, **options)[0][0].completion
        for options in ({}, {"step_separator": " "}, {"step_separator": ""})
    ]
    assert found == ["a\nb", "a b", "ab"]


def test_another_split_is_another_dataset(pairs, tmp_path):
    records = list(read_preferences(pairs))
    for fraction, seed in ((0.3, 0), (0.6, 0), (0.3, 1)):
        split = {"fraction": fraction, "seed": seed}
        found = prepare(PAIRS, pairs, tmp_path / "cache", **split)
        assert tuple(map(list, found)) == split_by_prompt(records, **split)


def test_a_file_is_read_once_and_hashed_once(pairs, tmp_path, monkeypatch):
    reads, hashes = [], []
    kind = dataclasses.replace(PAIRS, read=lambda *args: reads.append(1) or PAIRS.read(*args))
    digest = builders.content_sha256
    monkeypatch.setattr(builders, "content_sha256", lambda path: hashes.append(1) or digest(path))
    for i in (1, 2):
        prepare(kind, pairs, tmp_path / "cache", fraction=0.3, seed=0)
        assert (len(reads), len(hashes)) == (1, i)
    records = list(read_preferences(pairs))
    given = {"records": records, "sha256": digest(pairs)}
    sides = prepare(kind, pairs, tmp_path / "another", fraction=0.3, seed=0, **given)
    assert (len(reads), len(hashes)) == (1, 2)
    kept = prepare(PAIRS, pairs, tmp_path / "another", fraction=0.3, seed=0)
    assert [list(side) for side in kept] == [list(side) for side in sides]
    assert isinstance(kept[0], builders.Records)


def test_a_check_sees_every_record_each_time(pairs, tmp_path):
    seen = []

    def check(sides):
        seen.append([[r.source for r in sides[name].examples] for name in ("train", "held_out")])
        assert [sides[name].records for name in ("train", "held_out")] == list(map(len, seen[-1]))
        assert sum(side.weight for side in sides.values()) == 39.25
        assert all(side.source == side.examples[0].source for side in sides.values())
        if len(seen) == 3:
            raise InputError("no")

    for _ in (1, 2):
        sides = prepare(PAIRS, pairs, tmp_path / "a", fraction=0.3, seed=0, check=check)
        assert seen[-1] == [[r.source for r in side] for side in sides]
    with pytest.raises(InputError, match=r"^no$"):
        prepare(PAIRS, pairs, tmp_path / "b", fraction=0.3, seed=0, check=check)
    assert not (tmp_path / "b").exists()


def test_what_is_nested_too_deep_to_be_kept(pairs, tmp_path):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    records = [PromptRecord("p", {"x": deep}, f"{pairs}:2")]
    options = {"fraction": 0.0, "seed": 0, "records": records}
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: JSON nested too deep to be kept; fix"):
        prepare(KINDS["prompts"], pairs, tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_pairs_of_a_prompt_never_straddle(pairs):
    sides = split_by_prompt(read_preferences(pairs), fraction=0.5, seed=1)
    prompts = [{json.dumps(record.prompt) for record in side} for side in sides]
    assert all(prompts) and not prompts[0] & prompts[1]


def test_split_is_a_function_of_prompt_and_seed(pairs):
    records = list(read_preferences(pairs))
    _, held_out = split_by_prompt(records, fraction=0.4, seed=0)
    _, again = split_by_prompt(records[::-1], fraction=0.4, seed=0)
    assert again[::-1] == held_out
    assert split_by_prompt(records, fraction=0.4, seed=1)[1] != held_out
    assert split_by_prompt(records, fraction=0.0, seed=0) == (records, [])
    assert split_by_prompt(records, fraction=1.0, seed=0) == ([], records)
    fewer = split_by_prompt(records, fraction=0.2, seed=0)[1]
    assert [r for r in held_out if r in fewer] == fewer  # a larger fraction only adds
    many = [record for _ in range(1) for record in _prompts(4000)]
    share = len(split_by_prompt(many, fraction=0.25, seed=0)[1]) / 4000
    assert abs(share - 0.25) < 0.03  # 4 standard deviations


def _prompts(n):
    return [PromptRecord(f"prompt {i}", {}, f"f:{i}") for i in range(n)]


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_an_empty_side(fraction, pairs, tmp_path):
    sides = prepare(PAIRS, pairs, tmp_path / "cache", fraction=fraction, seed=0)
    assert [len(side) for side in sides] == [40 - 40 * fraction, 40 * fraction]


def test_the_cache_is_by_content(pairs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first, _ = prepare(PAIRS, pairs, cache, fraction=0.3, seed=0)
    before = {file: (cache / file).stat().st_mtime_ns for file in files(cache)}
    copy = tmp_path / "elsewhere.jsonl"
    copy.write_bytes(pairs.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(builders.JsonlRecords, "download_and_prepare", None)
        again, _ = prepare(PAIRS, copy, cache, fraction=0.3, seed=0)
    assert {file: (cache / file).stat().st_mtime_ns for file in files(cache)} == before
    assert [r.chosen for r in again] == [r.chosen for r in first]
    assert again[0].source == f"{copy}:{again[0].source.rpartition(':')[2]}"
    write(pairs, [pair("new", 0)])
    new, held_out = prepare(PAIRS, pairs, cache, fraction=0.3, seed=0)
    assert [r.prompt for r in [*new, *held_out]] == ["new"]
    ties = write(tmp_path / "ties.jsonl", [pair("p", 0), {**pair("p", 1), "rejected": "c1"}])
    kept, _ = prepare(PAIRS, ties, cache, fraction=0.0, seed=0, ties="drop")
    assert len(kept) == 1
    with pytest.raises(InputError, match="equals"):
        prepare(PAIRS, ties, cache, fraction=0.0, seed=0)


def test_an_error_leaves_the_cache_as_it_was(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(pair("p", 0)) + "\n{broken\n")
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"bad\.jsonl:2: broken JSON"):
        prepare(PAIRS, file, cache, fraction=0.1, seed=0)
    assert not cache.exists()
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        prepare(PAIRS, tmp_path / "none.jsonl", cache, fraction=0.1, seed=0)
    with pytest.raises(InputError, match=r"held-out fraction: expected 0 to 1, got 1\.5"):
        prepare(PAIRS, file, cache, fraction=1.5, seed=0)
    assert not cache.exists()


def test_an_interruption_leaves_nothing(pairs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    generate = builders.JsonlRecords._generate_examples

    def interrupted(self, rows):
        for i, row in generate(self, rows):
            if i == 5:
                raise KeyboardInterrupt
            yield i, row

    with monkeypatch.context() as patch:
        patch.setattr(builders.JsonlRecords, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(PAIRS, pairs, cache, fraction=0.3, seed=0)
    assert files(cache) == []
    train, held_out = prepare(PAIRS, pairs, cache, fraction=0.3, seed=0)
    assert len(train) + len(held_out) == 40


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder of this process and of those it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_nothing_is_left_in_the_temporary_folder(pairs, tmp_path, temporary):
    for _ in range(2):  # prepared, then found
        prepare(PAIRS, pairs, tmp_path / "cache", fraction=0.3, seed=0)
        assert list(temporary.iterdir()) == []
    (dataset,) = (tmp_path / "cache").iterdir()
    assert [p.name for p in dataset.iterdir()] == ["jsonl_records"]


KILLED = """
import os, sys
from irl_jax.data import builders
from irl_jax.data.kinds import KINDS
generate = builders.JsonlRecords._generate_examples
def killed(self, rows):
    for i, row in generate(self, rows):
        if i == 5:
            os._exit(9)
        yield i, row
builders.JsonlRecords._generate_examples = killed
builders.prepare(KINDS["pairs"], sys.argv[1], sys.argv[2], fraction=0.3, seed=0)
"""

NO_TENSORFLOW = """
import sys
from irl_jax.data.builders import prepare
from irl_jax.data.kinds import KINDS
prepare(KINDS["pairs"], sys.argv[1], sys.argv[2], fraction=0.3, seed=0)
train, held_out = prepare(KINDS["pairs"], sys.argv[1], sys.argv[2], fraction=0.3, seed=0)
assert len(train) + len(held_out) == 40 and train[0].chosen
loaded = [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
assert not loaded, loaded
"""


def run(code, *args):
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_killed_run_is_made_good_by_the_next_without_tensorflow(pairs, tmp_path, temporary):
    cache = tmp_path / "cache"
    assert run(KILLED, pairs, cache).returncode == 9
    done = run(NO_TENSORFLOW, pairs, cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(temporary.iterdir()) == []


def test_another_process_may_be_first(pairs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    generate = builders.JsonlRecords._generate_examples

    def overtaken(self, rows):
        monkeypatch.setattr(builders.JsonlRecords, "_generate_examples", generate)
        prepare(PAIRS, pairs, cache, fraction=0.3, seed=0)
        yield from generate(self, rows)

    monkeypatch.setattr(builders.JsonlRecords, "_generate_examples", overtaken)
    expected = split_by_prompt(read_preferences(pairs), fraction=0.3, seed=0)
    for _ in (1, 2):
        assert tuple(map(list, prepare(PAIRS, pairs, cache, fraction=0.3, seed=0))) == expected
    assert not [file for file in files(cache) if "incomplete" in file]
