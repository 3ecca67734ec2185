"""Runs that are killed, as processes: the toy of `tests.train.toy`."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from irl_jax.train.run import RunDirectory
from tests.train.faults import flip
from tests.train.processes import free_port, give_processes
from tests.train.toy import SAVE_EVERY, STEPS


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    give_processes(monkeypatch, devices=1)


def launch(kind, directory, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.toy", kind, str(directory), *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(kind, directory, *options):
    process = launch(kind, directory, *options)
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors
    with np.load(directory / "final.npz") as final:
        return {name: final[name].tobytes() for name in final}


def rows(directory):
    """Whole lines of the metrics, as another process sees them while they are written."""
    path = directory / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def wait_for_row(process, directory, step, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := rows(directory)) or found[-1]["step"] < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", "improve"])
def test_killed_five_times_is_never_killed(kind, tmp_path):
    straight = finish(kind, tmp_path / "straight")
    directory, rng = tmp_path / "killed", random.Random(kind)
    resumed_from = []
    for step in sorted(rng.sample(range(1, STEPS - 10), 5)):
        later = rng.uniform(0, 0.03)  # anywhere in an update, or in a checkpoint's writing
        process = launch(kind, directory, "--pause", "0.01", "--kill", str(step), str(later))
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == -signal.SIGKILL, errors
        resumed_from.append(max(map(int, whole_checkpoints(directory)), default=0))
    assert finish(kind, directory) == straight
    assert any(resumed_from), "no restart began at a checkpoint"
    with RunDirectory(directory, json.loads((directory / "config.json").read_text())) as run:
        assert [row["step"] for row in run.metrics()] == list(range(1, STEPS + 1))
        assert run.summary() == {"steps": STEPS}
    losses = lambda path: [row["loss"] for row in rows(path)]
    assert losses(directory) == losses(tmp_path / "straight")


def whole_checkpoints(directory):
    names = os.listdir(directory / "checkpoints") if (directory / "checkpoints").exists() else []
    return [name for name in names if name.isdigit()]


@pytest.mark.slow
@pytest.mark.parametrize("signum, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits_within_ten_seconds(signum, status, tmp_path):
    straight = finish("improve", tmp_path / "straight")
    directory = tmp_path / "stopped"
    process = launch("improve", directory, "--pause", "0.2")
    wait_for_row(process, directory, SAVE_EVERY + 1)
    begun = time.monotonic()
    process.send_signal(signum)
    errors = process.communicate(timeout=60)[1]
    crowding = max(1.0, os.getloadavg()[0] / os.cpu_count())  # by what else the machine does
    assert time.monotonic() - begun < 10 * crowding
    assert process.returncode == status
    assert "Traceback" not in errors and "saved; the same command goes on" in errors
    last = rows(directory)[-1]["step"]
    assert str(last) in whole_checkpoints(directory)
    assert finish("improve", directory) == straight


@pytest.mark.slow
def test_a_changed_flag_is_refused_with_status_2(tmp_path):
    finish("fit", tmp_path / "run", "--steps", "4")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    process = launch("fit", tmp_path / "run", "--steps", "4", "--rate", "0.1")
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert "rate was 0.05, is 0.1" in errors and errors.count("\n") == 1
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(tmp_path, monkeypatch):
    give_processes(monkeypatch, devices=2)

    def both(directory):
        port = free_port()
        return [
            launch("fit", directory, "--pause", "0.1", "--process", str(i), "--port", port)
            for i in range(2)
        ]

    def wait(processes):
        ends = [process.communicate(timeout=120) for process in processes]
        return [process.returncode for process in processes], [errors for _, errors in ends]

    assert wait(both(tmp_path / "straight"))[0] == [0, 0]
    processes = both(tmp_path / "stopped")
    wait_for_row(processes[0], tmp_path / "stopped", SAVE_EVERY + 1)
    processes[1].send_signal(signal.SIGTERM)  # one of them; the other learns of it
    codes, errors = wait(processes)
    assert codes == [143, 143], errors
    last = rows(tmp_path / "stopped")[-1]["step"]
    assert last < STEPS and str(last) in whole_checkpoints(tmp_path / "stopped")
    assert wait(both(tmp_path / "stopped"))[0] == [0, 0]
    finals = [(tmp_path / name / "final.npz").read_bytes() for name in ("straight", "stopped")]
    assert finals[0] == finals[1]
    assert [row["step"] for row in rows(tmp_path / "stopped")] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_two_processes_agree_on_the_newest_sound_checkpoint(tmp_path, monkeypatch):
    give_processes(monkeypatch, devices=2)

    def both():
        port = free_port()
        processes = [launch("fit", tmp_path, "--process", str(i), "--port", port) for i in range(2)]
        errors = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        return errors, (tmp_path / "final.npz").read_bytes()

    _, straight = both()
    flip(tmp_path / "checkpoints" / str(STEPS) / "state" / "manifest.ocdbt")
    (tmp_path / "final.npz").unlink()
    errors, final = both()
    assert final == straight
    assert f"put aside as {STEPS}.damaged; going on from update" in errors[0]
    assert "damaged" not in errors[1]
    assert {str(STEPS), f"{STEPS}.damaged"} <= set(os.listdir(tmp_path / "checkpoints"))
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, STEPS + 1))
