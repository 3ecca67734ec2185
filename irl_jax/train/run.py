"""A run directory: what was asked, what happened, and where to go on.

    config.json     the resolved configuration of the latest launch; what decides the results
                    is the same for the life of the run
    metrics.jsonl   one line an update: {"stage": "policy", "step": 12, "time": 1.7e9, "loss": ...}
    samples.jsonl   what the model wrote, with the stage and the step
    checkpoints/    see `irl_jax.train.checkpoint`
    summary.json    written last: the run is complete, and these are its results
    report.html     written by `irl_jax.report`

A run that fails before its first checkpoint, with nothing kept to go on from, leaves no
config.json: it may begin anew with other settings.

Whole files appear by renaming a finished one; lines are appended by one write each and
a last line torn by a kill is dropped when the run goes on. With several processes, the
first one writes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax

from irl_jax.files import as_json, read_object, write_atomic, writing
from irl_jax.train.track import Sink
from irl_jax.types import InputError

_ABSENT = object()

SHA256 = "sha256"
"""Of a configuration: flag -> digest of the input that it names (`irl_jax.train.inputs`)."""
REMOVE = "remove it"
"""What to do with a damaged file of a run."""
FREE = ("save_every",)
"""Names of fields that may change between launches: they decide nothing of the results."""
RESTARTED = {".lock", "config.json", "metrics.jsonl", "samples.jsonl", "seconds.json"}
"""Files of a run that a launch without a checkpoint begins anew."""


def differences(old: Any, new: Any) -> list[str]:
    """Fields in which two JSON values differ, as "optim.lr was 0.1, is 0.2".

    Example:
        >>> differences({"optim": {"lr": 0.1}, "k": 4}, {"optim": {"lr": 0.2}, "k": 4})
        ['optim.lr was 0.1, is 0.2']
    """
    return [line for _, line in _changes(old, new, "")]


def _changes(old: Any, new: Any, name: str) -> Iterator[tuple[str, str]]:
    """The dotted name of each field that differs, and what to say of it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in list(old) + [key for key in new if key not in old]:
            was, now = old.get(key, _ABSENT), new.get(key, _ABSENT)
            yield from _changes(was, now, f"{name}.{key}".lstrip("."))
    elif old != new:
        show = lambda value: "absent" if value is _ABSENT else json.dumps(value)
        yield name, f"{name or 'value'} was {show(old)}, is {show(new)}"


def check_same_config(place: str | os.PathLike, old: Any, new: Any) -> None:
    """Checks that a run goes on as it began: with the same flags, and the same inputs.

    An input whose digest both configurations hold under `SHA256` is told by that, and may
    lie elsewhere than before; fields named in `FREE` may change.

    Args:
        place: what holds the old configuration, named in the message.
        old: JSON value.
        new: JSON value.

    Raises:
        InputError: naming the input that is another one, or the fields that differ.
    """
    was, now = (x.get(SHA256, {}) if isinstance(x, dict) else {} for x in (old, new))
    same = [flag for flag in now if flag in was]
    for flag in same:
        if was[flag] != now[flag]:
            raise InputError(
                f"{flag}: {_field(new, flag)} is another one than the run in {os.fspath(place)} "
                f"began with ({SHA256}.{flag} was {was[flag][:12]}..., is {now[flag][:12]}...); "
                "restore it, or choose another run directory, or remove this one to begin anew"
            )
    changed = [
        line
        for name, line in _changes(old, new, "")
        if name not in same and name.rpartition(".")[2] not in FREE
    ]
    if changed:
        raise InputError(
            f"{os.fspath(place)}: belongs to a run with another configuration"
            f" ({'; '.join(changed)}); use another directory or the same flags"
        )


def _field(config: Any, name: str) -> Any:
    """The value of a field by its dotted name; the name itself if there is no such field."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return name if config is None else config


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file that this module wrote; none if it does not exist.

    A last line without its newline was torn by a kill and is left out.

    Raises:
        InputError: naming the file and the line that is not JSON.
    """
    return [row for row, _ in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Rows of a JSON-lines file, and the bytes of their lines."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            yield json.loads(line), line + b"\n"
        except ValueError as error:
            raise InputError(f"{path}:{number}: broken line ({error}); remove it") from error


def _lock(file: IO, path: Path) -> None:
    """Locks a file for this process, where the file system has locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(
            f"{path}: another process is writing this run; wait for it, or choose another directory"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def _pretty(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


class RunDirectory:
    """An open run directory; a context manager that closes it.

    Attributes:
        path: the directory.
        config: the configuration as JSON values.
    """

    def __init__(self, path: str | os.PathLike, config: Any, sinks: Sequence[Sink] = ()):
        """Creates the directory, or opens it to go on.

        Args:
            path: the directory; parents are created.
            config: frozen dataclass or mapping of plain values. What may change
                between launches (the directory itself, say) does not belong in it.
            sinks: are told every row of metrics, see `irl_jax.train.track`.

        Raises:
            InputError: if the directory holds a run with another configuration, is in
                use by another process, or cannot be written.
        """
        self.path = Path(path)
        self.config = as_json(config)
        self._primary = jax.process_index() == 0
        self._files: dict[str, IO[bytes]] = {}
        self._sinks = tuple(sinks)
        if not self._primary:
            return
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 (held while open)
            _lock(self._lock, self.path)
        file = self.path / "config.json"
        if file.exists():
            check_same_config(self.path, before := read_object(file, REMOVE), self.config)
        if not file.exists() or before != self.config:
            write_atomic(file, _pretty(self.config))
        for name in ("metrics", "samples"):
            self._rewrite(self.path / f"{name}.jsonl", "", 0)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._primary and not self._begun():
            (self.path / "config.json").unlink(missing_ok=True)
        self.close()

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.path / "report.html"

    def log(self, step: int, metrics: Mapping[str, Any], stage: str = "train") -> None:
        """Appends a row to metrics.jsonl, with the time in seconds since 1970.

        Args:
            step: number of updates of the stage done.
            metrics: name -> scalar; what is not finite is written as null.
            stage: a run may train several things, one after the other.

        Raises:
            InputError: if the row cannot be written.
        """
        now = round(time.time(), 3)
        row = as_json({"stage": stage, "step": step, "time": now, **metrics})
        self._append("metrics", row)
        if self._primary:
            for sink in self._sinks:
                sink(row)

    def sample(self, step: int, row: Mapping[str, Any], stage: str = "train") -> None:
        """Appends a row to samples.jsonl, as `log` does."""
        self._append("samples", {"stage": stage, "step": step, **row})

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return read_rows(self.path / "metrics.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        """The rows of samples.jsonl."""
        return read_rows(self.path / "samples.jsonl")

    def rewind(self, step: int, stage: str = "train") -> None:
        """Drops a stage's rows of metrics and samples after `step`: it goes on from there.

        Raises:
            InputError: if the files cannot be written.
        """
        for name in ("metrics", "samples"):
            self._rewrite(self.path / f"{name}.jsonl", stage, step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json, the mark of a complete run.

        Raises:
            InputError: if the file cannot be written.
        """
        if self._primary:
            write_atomic(self.path / "summary.json", _pretty(as_json(summary)))

    def summary(self) -> dict[str, Any] | None:
        """What `finish` wrote, or None while the run is not complete."""
        file = self.path / "summary.json"
        return read_object(file, REMOVE) if file.exists() else None

    def _begun(self) -> bool:
        """Whether there is anything to go on from, which belongs to the configuration."""
        files = {path.name for path in self.path.iterdir() if path.is_file()}
        checkpoints = (path.is_file() for path in self.checkpoints.rglob("*"))
        return any(checkpoints) or not files <= RESTARTED

    def close(self) -> None:
        """Closes the files; another process may then open the directory."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._primary:
            self._lock.close()

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if not self._primary:
            return
        path = self.path / f"{name}.jsonl"
        with writing(path):
            if name not in self._files:
                self._files[name] = open(path, "ab", buffering=0)  # noqa: SIM115
            line = json.dumps(as_json(row), ensure_ascii=False).encode() + b"\n"
            while line:
                line = line[self._files[name].write(line) :]

    def _rewrite(self, path: Path, stage: str, last: int) -> None:
        """Drops a stage's rows after step `last` and a torn last line, if there are any."""
        if not self._primary or not path.exists():
            return
        try:
            kept = b"".join(
                line for row, line in _lines(path) if row["stage"] != stage or row["step"] <= last
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged (a row has no {error}); remove it") from error
        if len(kept) != path.stat().st_size:
            file = self._files.pop(path.stem, None)
            if file is not None:
                file.close()
            write_atomic(path, kept)
