import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from irl_jax.files import as_json, write_atomic
from irl_jax.train.run import RunDirectory, differences, read_rows
from irl_jax.types import InputError


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True)
class Config:
    steps: int = 10
    data: Path = Path("prefs.jsonl")
    optim: Optim = field(default_factory=Optim)


def steps_of(rows):
    return [row["step"] for row in rows]


def test_config_is_written_and_opened_again(tmp_path):
    path = tmp_path / "a" / "run"
    with RunDirectory(path, Config()) as run:
        assert run.checkpoints == path / "checkpoints"
        assert run.report == path / "report.html"
    written = json.loads((path / "config.json").read_text())
    assert written["optim"] == {"lr": 1e-3, "betas": [0.9, 0.99]}
    with RunDirectory(path, Config()) as run:
        assert run.config == written
    assert sorted(p.name for p in path.iterdir()) == [".lock", "config.json"]


def test_changed_config_is_refused_and_named(tmp_path):
    RunDirectory(tmp_path, Config()).close()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError) as caught:
        RunDirectory(tmp_path, Config(steps=11, optim=Optim(lr=1e-4)))
    message = str(caught.value)
    assert "steps was 10, is 11" in message and "optim.lr was 0.001, is 0.0001" in message
    assert "another directory or the same flags" in message and "\n" not in message
    assert (tmp_path / "config.json").read_bytes() == before
    assert differences({"a": 1}, {"b": 1}) == ["a was 1, is absent", "b was absent, is 1"]


@pytest.mark.parametrize("name", ["checkpoints/policy/1", "responses.npz", "summary.json"])
def test_a_run_that_failed_with_nothing_to_go_on_from_takes_other_settings(name, tmp_path):
    for steps in (10, 11):
        with pytest.raises(KeyError), RunDirectory(tmp_path, Config(steps=steps)) as run:
            run.log(1, {"loss": 0.5})
            run.checkpoints.mkdir(exist_ok=True)
            raise KeyError
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(KeyError), RunDirectory(tmp_path, Config(steps=12)) as run:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
        raise KeyError
    with pytest.raises(InputError, match="steps was 12, is 13"):
        RunDirectory(tmp_path, Config(steps=13))


def test_rows_are_appended_rewound_and_torn_lines_dropped(tmp_path):
    with RunDirectory(tmp_path, {}) as run:
        for step in range(1, 6):
            run.log(step, {"loss": np.float32(1 / step)})
            run.sample(step, {"text": "naïve ☂\n"})
        run.log(9, {"accuracy": 1.0}, stage="reward")
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write('{"stage": "train", "step": 6, "text": "na\u00ef'.encode()[:-1])  # half a letter
    with RunDirectory(tmp_path, {}) as run:
        assert steps_of(run.metrics()) == [1, 2, 3, 4, 5, 9]
        run.rewind(3)
        run.log(4, {"loss": 0.5})
        assert steps_of(run.metrics()) == [1, 2, 3, 9, 4]  # the other stage stays
        assert run.metrics()[2]["loss"] == float(np.float32(1 / 3))
        assert steps_of(run.samples()) == [1, 2, 3]
        assert run.samples()[0]["text"] == "naïve ☂\n"
        run.rewind(0)
        run.rewind(0, "reward")
        assert run.metrics() == [] and run.samples() == []
        run.log(1, {})
    lines = (tmp_path / "metrics.jsonl").read_text().split("\n")
    assert len(lines) == 2 and json.loads(lines[0])["time"] > 1.7e9


def test_numbers_that_are_not_finite_are_null(tmp_path):
    with RunDirectory(tmp_path, {}) as run:
        run.log(1, {"kl": float("nan"), "x": np.float32("inf"), "y": np.arange(2)})
    text = (tmp_path / "metrics.jsonl").read_text()
    row = json.loads(text, parse_constant=pytest.fail)
    assert row["kl"] is None and row["x"] is None and row["y"] == [0, 1]


def test_summary_marks_a_complete_run(tmp_path):
    with RunDirectory(tmp_path, {}) as run:
        assert run.summary() is None
        run.finish({"gold": 0.5})
    with RunDirectory(tmp_path, {}) as run:
        assert run.summary() == {"gold": 0.5}


def test_a_broken_line_inside_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:2: broken line"):
        read_rows(tmp_path / "metrics.jsonl")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: broken JSON"):
        RunDirectory(tmp_path, {})


def test_a_value_without_a_json_form_is_refused():
    with pytest.raises(InputError, match="a function has no JSON form"):
        as_json({"f": steps_of})


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write: Not a directory") as caught:
        RunDirectory(tmp_path / "file" / "run", {})
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        RunDirectory(tmp_path / "run", {})


def test_no_space_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_atomic(path, b"old")

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"config.json: cannot write: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_no_space_for_a_row_is_one_line(tmp_path):
    with RunDirectory(tmp_path, {}) as run:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(InputError, match=r"metrics.jsonl: cannot write: No space left"):
            run.log(1, {"loss": 1.0})


def test_one_process_at_a_time(tmp_path):
    code = "import sys; from irl_jax.train.run import RunDirectory; RunDirectory(sys.argv[1], {})"
    other = lambda: subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    with RunDirectory(tmp_path, {}):
        refused = other()
    assert refused.returncode == 1 and "another process is writing this run" in refused.stderr
    assert other().returncode == 0
