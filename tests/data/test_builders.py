"""TFDS builders over JSON Lines: contents, cache, interruption, splits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from irl_jax.data import builders
from irl_jax.data.builders import prepare_preferences, prepare_prompts, split_by_prompt
from irl_jax.data.jsonl import read_preferences, read_prompts
from irl_jax.types import InputError

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


def test_records_are_those_of_the_file(pairs, tmp_path):
    train, held_out = prepare_preferences(pairs, tmp_path / "cache", fraction=0.3, seed=0)
    expected = split_by_prompt(read_preferences(pairs), fraction=0.3, seed=0)
    assert (list(train), list(held_out)) == expected
    assert len(train) + len(held_out) == 40 and len(held_out) > 0
    assert train[-1] == list(train)[-1] and train[1:3] == list(train)[1:3]
    with pytest.raises(IndexError):
        train[len(train)]


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
    from irl_jax.data.jsonl import PromptRecord

    return [PromptRecord(f"prompt {i}", {}, f"f:{i}") for i in range(n)]


def test_prompts(tmp_path):
    rows = [{"question": f"q{i}", "answer": {"n": i, "text": "é"}} for i in range(10)]
    rows.append({"question": MESSAGES})
    file = write(tmp_path / "prompts.jsonl", rows)
    options = {"fraction": 0.3, "seed": 0, "prompt_field": "question"}
    train, held_out = prepare_prompts(file, tmp_path / "cache", **options)
    records = read_prompts(file, prompt_field="question")
    assert (list(train), list(held_out)) == split_by_prompt(records, fraction=0.3, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_an_empty_side(fraction, pairs, tmp_path):
    sides = prepare_preferences(pairs, tmp_path / "cache", fraction=fraction, seed=0)
    assert [len(side) for side in sides] == [40 - 40 * fraction, 40 * fraction]


def test_the_cache_is_by_content(pairs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first, _ = prepare_preferences(pairs, cache, fraction=0.3, seed=0)
    before = {file: (cache / file).stat().st_mtime_ns for file in files(cache)}
    copy = tmp_path / "elsewhere.jsonl"
    copy.write_bytes(pairs.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(builders.JsonlPreferences, "download_and_prepare", None)
        again, _ = prepare_preferences(copy, cache, fraction=0.3, seed=0)
    assert {file: (cache / file).stat().st_mtime_ns for file in files(cache)} == before
    assert [r.chosen for r in again] == [r.chosen for r in first]
    assert again[0].source == f"{copy}:{again[0].source.rpartition(':')[2]}"
    write(pairs, [pair("new", 0)])
    new, held_out = prepare_preferences(pairs, cache, fraction=0.3, seed=0)
    assert [r.prompt for r in [*new, *held_out]] == ["new"]
    ties = write(tmp_path / "ties.jsonl", [pair("p", 0), {**pair("p", 1), "rejected": "c1"}])
    kept, _ = prepare_preferences(ties, cache, fraction=0.0, seed=0, ties="drop")
    assert len(kept) == 1
    with pytest.raises(InputError, match="equals"):
        prepare_preferences(ties, cache, fraction=0.0, seed=0)


def test_an_error_leaves_the_cache_as_it_was(tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(pair("p", 0)) + "\n{broken\n")
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"bad\.jsonl:2: broken JSON"):
        prepare_preferences(file, cache, fraction=0.1, seed=0)
    assert not cache.exists()
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        prepare_preferences(tmp_path / "none.jsonl", cache, fraction=0.1, seed=0)
    with pytest.raises(InputError, match=r"held-out fraction: expected 0 to 1, got 1\.5"):
        prepare_preferences(file, cache, fraction=1.5, seed=0)
    assert not cache.exists()


def test_an_interruption_leaves_nothing(pairs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    encode = builders.JsonlPreferences.encode

    def interrupted(record):
        if record.chosen == "c30":
            raise KeyboardInterrupt
        return encode(record)

    with monkeypatch.context() as patch:
        patch.setattr(builders.JsonlPreferences, "encode", staticmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            prepare_preferences(pairs, cache, fraction=0.3, seed=0)
    assert files(cache) == []
    train, held_out = prepare_preferences(pairs, cache, fraction=0.3, seed=0)
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
        prepare_preferences(pairs, tmp_path / "cache", fraction=0.3, seed=0)
        assert list(temporary.iterdir()) == []
    (dataset,) = (tmp_path / "cache").iterdir()
    assert [p.name for p in dataset.iterdir()] == ["jsonl_preferences"]


KILLED = """
import os, sys
from irl_jax.data import builders
encode = builders.JsonlPreferences.encode
def killed(record):
    if record.chosen == "c30":
        os._exit(9)
    return encode(record)
builders.JsonlPreferences.encode = staticmethod(killed)
builders.prepare_preferences(sys.argv[1], sys.argv[2], fraction=0.3, seed=0)
"""

NO_TENSORFLOW = """
import sys
from irl_jax.data.builders import prepare_preferences
train, held_out = prepare_preferences(sys.argv[1], sys.argv[2], fraction=0.3, seed=0)
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
    encode = builders.JsonlPreferences.encode
    calls = []

    def overtaken(record):
        if not calls:
            calls.append(record)
            monkeypatch.setattr(builders.JsonlPreferences, "encode", staticmethod(encode))
            prepare_preferences(pairs, cache, fraction=0.3, seed=0)
        return encode(record)

    monkeypatch.setattr(builders.JsonlPreferences, "encode", staticmethod(overtaken))
    train, held_out = prepare_preferences(pairs, cache, fraction=0.3, seed=0)
    assert (list(train), list(held_out)) == split_by_prompt(
        read_preferences(pairs), fraction=0.3, seed=0
    )
    assert not [file for file in files(cache) if "incomplete" in file]
