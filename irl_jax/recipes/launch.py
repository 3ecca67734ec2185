"""What every run does: it is launched, goes on or is reported, and keeps time and arrays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

from irl_jax.files import as_json, read_arrays, read_object, write_arrays, write_atomic
from irl_jax.recipes.distributed import check_one_process
from irl_jax.recipes.language_model import model_path
from irl_jax.train.inputs import identities
from irl_jax.train.progress import Progress
from irl_jax.train.run import REMOVE, SHA256, RunDirectory
from irl_jax.train.track import Tracker, load_tracker, tracked
from irl_jax.types import InputError


class Config(Protocol):
    """The configuration of an experiment: a dataclass that says where its run is."""

    @property
    def run_dir(self) -> Path | str:
        """Directory of the run."""


Inputs = Mapping[str, Path | str | None]  # flag -> file or directory that it names; None: none


def launch(
    config: Config,
    experiment: Callable[[RunDirectory, Progress], None],
    conclusion: Callable[[dict[str, Any], Path], str],
    *,
    inputs: Inputs | None = None,
    pinned: Mapping[str, Any] | None = None,
) -> None:
    """Runs an experiment in its directory, goes on with it, or reports what is there.

    Args:
        config: a dataclass; all of it but `run_dir` must stay the same from launch to launch.
        experiment: does the work, and ends with `run.finish(summary)`.
        conclusion: the closing lines in the terminal, from the summary and the report's path.
        inputs: what is read; its content must stay the same, its place may change.
        pinned: what else must stay the same.

    Raises:
        InputError: there are several processes; `launch_prepared` runs in them.
    """
    check_one_process("this experiment")
    settings = settings_of(config, inputs or {}) | dict(pinned or {})
    with RunDirectory(config.run_dir, settings) as run:
        if run.summary() is None:
            with Progress() as progress:
                experiment(run, progress)
        else:
            print(_complete(run, gone(run)))
        print(conclusion(run.summary() or {}, run.report))


def settings_of(
    config: Any, inputs: Inputs, elsewhere: Sequence[str] = ("run_dir",)
) -> dict[str, Any]:
    """What must stay the same from launch to launch, for `RunDirectory`.

    Args:
        config: a dataclass.
        inputs: as `launch` takes them.
        elsewhere: fields that may change.

    Raises:
        InputError: an input that cannot be read.
    """
    settings = {k: v for k, v in as_json(config).items() if k not in elsewhere}
    found = identities(inputs)
    return settings | ({SHA256: found} if found else {})


def given_model(name: str) -> Path | None:
    """Where a model lies that is named as `load_language_model` takes it; None if it is made.

    Raises:
        InputError: there is no such model.
    """
    if name in ("tiny", "sandbox"):
        return None
    path = model_path(name, Path(), 0)
    if not path.exists():
        raise InputError(f"{path}: no such GGUF file or Hugging Face model directory")
    return path


Ready = TypeVar("Ready")


def launch_prepared(
    run_dir: Path,
    settings: Mapping[str, Any],
    prepare: Callable[[Progress], Ready],
    experiment: Callable[[Ready, RunDirectory, Progress], dict[str, Any]],
    conclusion: Callable[[dict[str, Any]], str],
    track: Tracker | None = None,
) -> None:
    """As `launch`, where nothing is to be written before all input was read and checked.

    Where files of a complete run are gone, its last stages are done again from its last
    checkpoints, which writes the same files.

    Args:
        run_dir: directory of the run.
        settings: what must stay the same from launch to launch.
        prepare: reads and checks.
        experiment: does the work, ends with `run.finish(summary)`, and returns the summary.
        conclusion: the closing lines in the terminal, from the summary.
        track: where metrics are sent beside metrics.jsonl, see `irl_jax.train.track`.
    """
    if track is not None:
        load_tracker(track)
    if (run_dir / "config.json").exists():
        with RunDirectory(run_dir, settings) as run:
            summary, lost = run.summary(), gone(run)
        if summary is not None and lost and run.checkpoints.is_dir():
            print(
                f"{run_dir}: this run is complete, but without {', '.join(lost)}; writing it anew"
            )
        elif summary is not None:
            print(f"{_complete(run, lost)}\n{conclusion(summary)}")
            return
    with Progress() as progress:
        ready = prepare(progress)
        with (
            tracked(track if jax.process_index() == 0 else None, run_dir, settings) as sinks,
            RunDirectory(run_dir, settings, sinks) as run,
        ):
            summary = experiment(ready, run, progress)
    if jax.process_index() == 0:
        print(conclusion(summary))


def gone(run: RunDirectory) -> list[str]:
    """What a complete run wrote for people and other programs that is not there any more.

    Args:
        run: whose summary names the files of its export as `exported`.
    """
    names = [run.report.name, *(run.summary() or {}).get("exported", ())]
    return [name for name in names if not (run.path / name).is_file()]


def _complete(run: RunDirectory, lost: Sequence[str]) -> str:
    said = f"{run.path}: this run is complete"
    if lost:
        said += f", but {', '.join(lost)} is gone; remove summary.json to have the run write it"
    return said


class Clock:
    """Seconds spent in each stage of a run, over all its launches."""

    def __init__(self, path: Path):
        """Reads what earlier launches wrote to `path`.

        Raises:
            InputError: it is damaged.
        """
        self._path = path
        self.seconds: dict[str, float] = read_object(path, REMOVE) if path.exists() else {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Times a stage; also one that is interrupted."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            if jax.process_index() == 0:
                write_atomic(self._path, json.dumps(self.seconds).encode())


def kept(
    run: RunDirectory, name: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Named arrays from NAME.npz in the run directory, made and written if they are not there.

    Args:
        run: the run.
        name: of the file.
        make: array name -> array; of numbers, booleans or strings.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / f"{name}.npz"
    if not path.exists():
        write_arrays(path, make())
    return read_arrays(path)


def splits(group: np.ndarray, held_out: float, seeds: int) -> np.ndarray:
    """Random splits that keep groups whole, bool[S, N]: true where a row is trained on.

    Args:
        group: i64[N], number of each row's group (its prompt), 0, 1, ...
        held_out: share of the groups that is kept from training.
        seeds: S.
    """
    orders = (np.random.default_rng([s, 0]).permutation(group.max() + 1) for s in range(seeds))
    return np.array([order[group] >= held_out * len(order) for order in orders])
