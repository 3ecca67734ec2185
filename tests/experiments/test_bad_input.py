"""What the user can get wrong: one line that names the place and the fix, exit status 2.

The cases are in `mistakes`. Nothing of a failed run looks finished.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import experiments.preference_to_policy.study as experiment
from irl_jax.models import huggingface
from irl_jax.recipes.reward_model import RewardModel
from tests.experiments.conftest import POLICIES, complaint
from tests.experiments.mistakes import DATA, FLAGS, MODEL, RUN_DIRECTORY, Workplace

ROOT = Path(__file__).parents[2]
PROGRESS = re.compile(r"[\w ,-]+ \d+/\d+  ")  # a line of a stage that went well


@pytest.fixture
def place(tmp_path, tiny_model_dir) -> Workplace:
    return Workplace(tmp_path, tiny_model_dir)


def check_refused(config, args, says, capsys) -> None:
    """Runs the experiment, which ends with status 2 and one line that says what is wrong."""
    with pytest.raises(SystemExit) as stop:
        experiment.command(args, config)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    check_line(captured.err, says)
    check_unfinished(config.run_dir)


def check_line(stderr: str, says: str) -> None:
    lines = [line for line in stderr.splitlines() if not PROGRESS.match(line)]
    told = complaint("\n".join(lines))
    assert re.match(says, told), (says, told)


def check_unfinished(run_dir: Path) -> None:
    if not run_dir.is_dir():
        return
    assert not {"export", "summary.json", "report.html"} & set(os.listdir(run_dir))
    left = [str(p) for p in run_dir.rglob("*") if re.search(r"tmp|partial|incomplete", p.name)]
    assert not left


@pytest.mark.parametrize(
    "case", DATA + MODEL + FLAGS + RUN_DIRECTORY, ids=lambda case: case.__name__
)
def test_refused_before_any_work(case, place, capsys):
    args, says = case(place)
    check_refused(place.config(), args, says, capsys)
    assert not (place.run_dir / "config.json").exists()  # nothing binds the next launch


# --- mistakes that show later -----------------------------------------------------------


def test_weights_that_are_not_finite(place, capsys):
    weights = place.own_model()
    tensors = load_file(weights)
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    save_file(tensors, weights)
    says = r"reward: loss is nan in update 1; probably the data or the first parameters hold"
    check_refused(place.config(), [], says, capsys)


def test_reward_that_is_not_finite(place, capsys, monkeypatch):
    reward = RewardModel.reward

    def spoilt(self, group, context):
        said = reward(self, group, context)
        return said._replace(value=said.value.at[3, 1].set(jnp.nan))

    monkeypatch.setattr(RewardModel, "reward", spoilt)
    says = (
        r"policy: reward is not finite for 1 of 16 completions in update 1, first for "
        r"completion 1 of prompt 3; fix the reward function; earlier checkpoints are kept"
    )
    config = replace(place.config(), policy=POLICIES["grpo"])
    check_refused(config, ["--reward.epochs", "0.2"], says, capsys)


@pytest.fixture
def unfinished(dpo, tmp_path):
    """A run in which all is done but the export, the report and the summary."""
    run_dir = shutil.copytree(dpo.run_dir, tmp_path / "run")
    shutil.rmtree(run_dir / "export")
    for name in ("summary.json", "report.html"):
        (run_dir / name).unlink()
    return replace(dpo, run_dir=run_dir)


def test_no_space_for_the_export(unfinished, capsys, monkeypatch):
    def refuse(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(huggingface, "save_file", refuse)
    says = r"\S+export\S*: cannot be written \(.*No space left on device.*\); make room or choose"
    check_refused(unfinished, [], says, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["summary.json", "report.html"])
def test_no_space_for_the_results(name, unfinished, capsys):
    (unfinished.run_dir / f".{name}.tmp").symlink_to("/dev/full")
    with pytest.raises(SystemExit) as stop:
        experiment.command([], unfinished)
    assert stop.value.code == 2
    says = rf"\S+/run/{re.escape(name)}: cannot write: No space left on device; make room or"
    check_line(capsys.readouterr().err, says)
    assert not (unfinished.run_dir / "summary.json").exists()
    assert not (unfinished.run_dir / name).exists()


# --- as a user meets it -----------------------------------------------------------------


def command(config, *args: str) -> list[str]:
    return [sys.executable, "-m", "experiments.preference_to_policy", "--data.path",
            str(config.data.path), "--data.held-out", "0.25", "--data.buckets", "1",
            "--model", config.model, "--run-dir", str(config.run_dir), *args]  # fmt: skip


def test_from_the_shell(place):
    place.edit(3, rejected=None)
    done = subprocess.run(command(place.config()), capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {place.data}:3: no field `rejected` (fields: prompt, chosen); add or rename it\n"
    )
    assert not place.run_dir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "says"),
    [
        ("32k", r"\S+/run/data/\w+: cannot write: No space left on device; make room or choose"),
        (
            "400k",
            r"\S+/checkpoints/reward: (cannot write a checkpoint: No space left|.* needs \d+ MB)",
        ),
    ],
)
def test_a_disk_that_is_full(size, says, place):
    """On a file system of that size, which the process alone sees.

    A thread of the library that writes checkpoints may come to its own end later than the failure,
    and now and then prints a traceback of asyncio beside our line.
    """
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("unshare may not make a mount namespace here")
    disk = place.path / "disk"
    disk.mkdir()
    place.run_dir = disk / "run"
    script = """
        mount -t tmpfs -o "size=$0" tmpfs "$1" || exit 99
        place="$1"; shift
        "$@"; status=$?
        find "$place" -name "*tmp*" -o -name "*incomplete*" -o -name export -o -name summary.json
        exit $status
        """
    flags = ["--mesh.data", "1", "--reward.batch-size", "8", "--policy.batch-size", "8",
             "--lora.rank", "4", "--save-every", "1"]  # fmt: skip
    done = subprocess.run(
        [*namespace, "bash", "-c", script, size, str(disk), *command(place.config(), *flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]
    (told,) = (line for line in lines if line.startswith("error: "))
    check_line(told, says)
    lines.remove(told)
    assert not lines or (lines[0].startswith("Traceback") and "asyncio" in lines[1]), lines
