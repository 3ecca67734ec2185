"""What a run keeps, and what is said where it was harmed."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError
from tests.train.faults import FAULTS

SMALL = {"w": np.arange(2000.0).reshape(40, 50), "name": np.array(["a", "b"])}


@dataclass(frozen=True)
class Config:
    """A study without anything in it."""

    run_dir: Path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kept_file_that_is_harmed_is_one_line_or_made_again(fault, tmp_path):
    with RunDirectory(tmp_path, {}) as run:
        kept(run, "arrays", lambda: SMALL)
        path = run.path / "arrays.npz"
        FAULTS[fault](path)
        try:
            found = kept(run, "arrays", lambda: SMALL)
        except InputError as error:
            assert str(error).startswith(f"{path}: damaged (") and "\n" not in str(error)
        else:  # gone, or a byte that says nothing of the arrays
            assert all((found[name] == value).all() for name, value in SMALL.items())


def test_every_byte_of_a_kept_file(tmp_path):
    """Flipped in turn, one in ten of them: never other numbers, never a traceback."""
    with RunDirectory(tmp_path, {}) as run:
        kept(run, "arrays", lambda: {"w": np.arange(20.0)})
        path = run.path / "arrays.npz"
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            try:
                found = kept(run, "arrays", lambda: {})
            except InputError:
                continue
            assert all((value == np.arange(20.0)).all() for value in found.values())


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "\udc80"])
@pytest.mark.parametrize("name", ["config.json", "summary.json", "seconds.json"])
def test_a_harmed_file_of_a_run_is_named(name, content, tmp_path):
    def study(run, progress):
        with Clock(run.path / "seconds.json")("work"):
            run.log(1, {"loss": 1.0})
        run.report.write_text("")
        run.finish({})

    config = Config(tmp_path / "run")
    again = lambda: launch(config, study, lambda summary, report: "done")
    again()
    if name == "seconds.json":
        (config.run_dir / "summary.json").unlink()
    (config.run_dir / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(
        InputError,
        match=rf"^\S+/{name}: (broken JSON|not UTF-8|expected a JSON object).*; remove it$",
    ):
        again()
    (config.run_dir / name).unlink()
    again()


@pytest.mark.parametrize("row", ["[1]", "3", '{"step": 1}', '{"stage": "train", "step": "x"}'])
def test_a_row_that_is_none_is_named(row, tmp_path):
    RunDirectory(tmp_path, {}).close()
    (tmp_path / "metrics.jsonl").write_text(row + "\n")
    with (
        pytest.raises(InputError, match=r"^\S+/metrics\.jsonl:?\S* (damaged|broken)"),
        RunDirectory(tmp_path, {}) as run,
    ):
        run.rewind(0)


def test_a_report_that_is_gone_is_said_to_be(tmp_path, capsys):
    def study(run, progress):
        run.report.write_text("")
        run.finish({})

    config = Config(tmp_path / "run")
    for _ in range(2):
        launch(config, study, lambda summary, report: "done")
    assert capsys.readouterr().out == f"done\n{config.run_dir}: this run is complete\ndone\n"
    (config.run_dir / "report.html").unlink()
    launch(config, study, lambda summary, report: json.dumps(summary))
    assert "complete, but report.html is gone; remove summary.json" in capsys.readouterr().out


def test_a_run_directory_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match=r"^\S+/run: cannot write: File exists; "):
        launch(Config(tmp_path / "run"), lambda run, progress: None, lambda s, r: "")
