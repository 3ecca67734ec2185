"""Several processes of one command: they begin, stop, fail and end together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from irl_jax.models.pretrained import load_pretrained
from irl_jax.recipes import distributed
from irl_jax.recipes.cli import exiting, parse
from irl_jax.recipes.distributed import address, begin, check_one_process
from irl_jax.recipes.score_config import CONFIG
from irl_jax.types import InputError
from tests.train.processes import free_port, give_processes

ALIGN = [
    "align", "--loss", "dpo", "--data.held-out", "0.3", "--data.buckets", "1",
    "--batch-size", "8", "--lora.rank", "4", "--evaluation.prompts", "8",
    "--evaluation.completions", "2", "--evaluation.batch-size", "8", "--mesh.data", "8",
    "--sample.max-new-tokens", "4",
]  # fmt: skip
SECONDS = 30.0  # in which all processes stop


@pytest.mark.parametrize(
    "given, said",
    [
        ("localhost,2,0", "expected auto, off or HOST:PORT,N,I, got localhost,2,0"),
        (":1234,2,0", "expected auto, off or HOST:PORT,N,I"),
        ("h:1234,2", "expected auto, off or HOST:PORT,N,I"),
        ("h:1234,2,-1", "expected auto, off or HOST:PORT,N,I"),
        ("h:1234,2,2", "process 2 of 2; expected 0 to 1"),
        ("h:1234,0,0", "process 0 of 0"),
        ("on", "expected auto, off or HOST:PORT,N,I, got on"),
    ],
)
def test_what_is_no_address_is_named(given, said):
    with pytest.raises(InputError, match=said):
        address(given)
    with pytest.raises(InputError, match=said):
        begin(["--distributed", given])


def test_the_flag_is_taken_from_the_command_line(monkeypatch):
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: joined.append(args))
    for args in (["--distributed", "h:1,2,1"], ["--distributed=h:1,2,1"]):
        assert begin(["align", *args, "--steps", "3"]) == ["align", "--steps", "3"]
        assert joined.pop() == ("h:1", 2, 1)
    monkeypatch.setattr(distributed, "_alone", lambda: False)
    assert begin(["--seed", "1"]) == ["--seed", "1"] and joined.pop() == ()
    monkeypatch.setattr(distributed, "_alone", lambda: True)
    assert begin(["--seed", "1"]) == ["--seed", "1"]
    for args in (["--distributed", "off"], ["--help"], ["--help-all", "--distributed", "h:1,2,1"]):
        begin(args)
    assert not joined
    with pytest.raises(InputError, match="after it"):
        begin(["align", "--distributed"])


SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[001-003]", "SLURM_NTASKS": "3",
    "SLURM_PROCID": "1", "SLURM_LOCALID": "0",
}  # fmt: skip


def test_clusters_are_found_and_a_laptop_is_none(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    assert distributed._alone()
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert not distributed._alone()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert distributed._alone()
    assert begin(["--steps", "3"]) == ["--steps", "3"]
    assert not jax.distributed.is_initialized()
    check_one_process("this")
    assert distributed.name() == ""


def test_what_jax_cannot_join_is_one_line(monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("Kubernetes API Error:\n  403 - Forbidden")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    monkeypatch.setattr(distributed, "_alone", lambda: False)
    with pytest.raises(SystemExit) as stop, exiting():
        begin([])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--distributed auto: Kubernetes API Error: 403 - Forbidden; --distributed off" in error


def test_help_tells_of_it(capsys):
    with pytest.raises(SystemExit):
        parse(CONFIG, ["--help"], description="About.")
    assert "--distributed auto|off|HOST:PORT,N,I" in " ".join(capsys.readouterr().out.split())


def test_one_process_is_asked_for(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(InputError, match="this runs in one process, and there are 4"):
        check_one_process("this")


class Job:
    """The same command as two processes of four devices each."""

    def __init__(self, args):
        command = [sys.executable, "-m", "irl_jax", *args, "--distributed"]
        place = f"127.0.0.1:{free_port()}"
        self.processes = [
            subprocess.Popen(
                [*command, f"{place},2,{i}"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for i in range(2)
        ]  # fmt: skip

    def end(self):
        """Statuses, and what was written to stdout and stderr."""
        told = [process.communicate(timeout=240) for process in self.processes]
        return [process.returncode for process in self.processes], *zip(*told, strict=True)


def rows(run_dir: Path, stage="policy"):
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if row["stage"] == stage]


def close(found: Path, expected: Path):
    """Equal losses and exports, but for the order of sums over devices."""
    for one, other in zip(rows(found), rows(expected), strict=True):
        assert one["step"] == other["step"]
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
    mine, theirs = (load_pretrained(run / "export")[1] for run in (found, expected))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), mine, theirs)


@pytest.mark.slow
def test_two_processes_do_what_one_does(files, small_model_dir, tmp_path, monkeypatch):
    """Also where one of them is stopped by Ctrl-C, and both start again, or one of four devices."""
    whole = lambda run: [
        *ALIGN, "--data.path", str(files["pairs"]), "--model", str(small_model_dir),
        "--run-dir", str(tmp_path / run), "--steps", "40", "--save-every", "1000",
    ]  # fmt: skip

    def alone(devices, *args):
        give_processes(monkeypatch, devices=devices)
        command = [sys.executable, "-m", "irl_jax", *args, "--distributed", "off"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr

    alone(8, *whole("one"))
    give_processes(monkeypatch, devices=4)
    job = Job(whole("two"))
    while not rows(tmp_path / "two"):
        assert job.processes[1].poll() is None, job.end()
        time.sleep(0.01)
    job.processes[1].send_signal(signal.SIGINT)
    begun = time.monotonic()
    statuses, _, errors = job.end()
    crowding = max(1.0, os.getloadavg()[0] / os.cpu_count())  # by what else the machine does
    assert time.monotonic() - begun < SECONDS * crowding
    assert statuses == [143, 143], errors
    assert "saved; the same command goes on from there" in errors[0]
    assert 0 < len(rows(tmp_path / "two")) < 40
    shutil.copytree(tmp_path / "two", tmp_path / "fewer")
    statuses, printed, errors = Job(whole("two")).end()
    assert statuses == [0, 0], errors
    assert "dpo, 40 updates" in printed[0] and "dpo" not in printed[1]
    close(tmp_path / "two", tmp_path / "one")
    alone(4, *whole("fewer"), "--mesh.data", "4")
    close(tmp_path / "fewer", tmp_path / "one")


FAILING = """
import jax

def reward(prompts, completions, **_):
    if jax.process_index() == 1:
        raise ValueError("no")
    return [1.0] * len(completions)
"""


@pytest.mark.slow
def test_one_that_fails_ends_the_other(files, small_model_dir, tmp_path, monkeypatch):
    give_processes(monkeypatch, devices=4)
    (tmp_path / "failing.py").write_text(FAILING)
    statuses, _, errors = Job([
        *ALIGN, "--loss", "grpo", "--reward", f"{tmp_path / 'failing.py'}:reward",
        "--data.path", str(files["pairs"]), "--model", str(small_model_dir),
        "--run-dir", str(tmp_path / "run"), "--steps", "2",
    ]).end()  # fmt: skip
    assert statuses == [1, 1], errors
    assert "ValueError: no" in errors[1] and "Traceback" not in errors[0]
    assert "process 0: ended, as process 1 was" in errors[0]
