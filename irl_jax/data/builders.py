"""Files of examples, split by prompt and prepared once: TFDS with ArrayRecord, no TensorFlow.

A file is read, checked and split once. Its dataset lies in the given cache under a hash of
the file's content, of the kind of its examples and of the split, and is found there the next
time. TFDS writes into a temporary directory and renames it at the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import tensorflow_datasets as tfds

from irl_jax.data.chat import Text
from irl_jax.data.identity import Identity
from irl_jax.data.kinds import Kind
from irl_jax.data.parquet import content_sha256
from irl_jax.types import InputError

R = TypeVar("R")  # a record of `irl_jax.data.kinds`

TRAIN, HELD_OUT = "train", "held_out"


@dataclass(frozen=True)
class HeldOut:
    """Which prompts are held out: a hash of the prompt decides.

    Attributes:
        fraction: of the prompts that are held out, 0 to 1.
        seed: other prompts for other seeds.
        identity: which prompts are one to the model; None: those that are written alike,
            though a string and a user's message be one to it.
    """

    fraction: float
    seed: int
    identity: Identity | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise InputError(f"held-out fraction: expected 0 to 1, got {self.fraction}")

    def name(self, prompt: Text, tools: list[Any] | None = None) -> str:
        """The split of a prompt, and of the tools offered with it: "train" or "held_out".

        Raises:
            InputError: the template of the identity refuses the prompt.
        """
        form = prompt if self.identity is None else self.identity(prompt, tools)
        parts = [self.seed, form, tools] if tools else [self.seed, form]
        key = json.dumps(parts, sort_keys=True).encode()
        number = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
        return HELD_OUT if number < self.fraction * 2**64 else TRAIN


@dataclass(frozen=True)
class Side(Generic[R]):
    """What falls on a side of a split.

    Attributes:
        examples: its records, in the order of the file.
    """

    examples: Sequence[R]

    @property
    def records(self) -> int:
        """How many."""
        return len(self.examples)

    @cached_property
    def weight(self) -> float:
        """The sum of their weights; of records without weights 0."""
        return sum(getattr(record, "weight", 0.0) for record in self.examples)

    @property
    def source(self) -> str:
        """`FILE:LINE` of the first; "" if there is none."""
        return getattr(self.examples[0], "source", "") if len(self.examples) else ""


# of the sides of a split, by name: raises `InputError` where they are of no use
Check = Callable[[dict[str, Side]], None]


def split_by_prompt(
    records: Iterable[R], *, fraction: float, seed: int, identity: Identity | None = None
) -> tuple[list[R], list[R]]:
    """Splits records so that all records of a prompt fall on one side.

    Args:
        records: with `prompt`, `tools` and `source`.
        fraction: of the prompts that are held out, 0 to 1.
        seed: of the split.
        identity: which prompts are one, as in `HeldOut`.

    Returns:
        (train, held out), each in the order of the records.

    Raises:
        InputError: a fraction outside [0, 1], or a prompt that the template of the identity
            refuses.
    """
    split = HeldOut(fraction, seed, identity)
    sides: dict[str, list[R]] = {TRAIN: [], HELD_OUT: []}
    for given in records:
        record: Any = given
        try:
            name = split.name(record.prompt, record.tools)
        except InputError as error:
            raise InputError(f"{record.source}: {error}") from error
        sides[name].append(record)
    return sides[TRAIN], sides[HELD_OUT]


class _LocalInfo(tfds.core.DatasetInfo):
    """A dataset that no bucket knows: TFDS leaves a temporary directory when it asks."""

    def initialize_from_bucket(self) -> None:
        """Nothing: what is not on disk is not yet prepared."""


class JsonlRecords(tfds.core.GeneratorBasedBuilder):
    """The records of a file, each as JSON, with the number of its line."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # nothing is downloaded: no checksums to look for beside the code

    def __init__(self, *, sides: Mapping[str, Sequence[dict[str, Any]]], **options: Any):
        """The dataset of the rows of each side; of one that was prepared there may be none."""
        self._sides = sides
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Records of a file of examples, split by prompt.",
            features=tfds.features.FeaturesDict(
                {"record": tfds.features.Text(), "line": tfds.features.Scalar(np.int64)}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {
            name: self._generate_examples(rows)
            for name, rows in sorted(self._sides.items())
            if rows
        }

    def _generate_examples(self, rows: Sequence[dict[str, Any]]) -> Iterator[Any]:
        yield from enumerate(rows)


def as_row(record: Any) -> dict[str, Any]:
    """A record as a row of the dataset.

    Raises:
        InputError: it is nested too deep.
    """
    source = record.source
    names = [field.name for field in fields(record) if field.name != "source"]
    with _deep(source):
        text = json.dumps({name: getattr(record, name) for name in names})
    return {"record": text, "line": int(source.rpartition(":")[2])}


@contextlib.contextmanager
def _deep(source: str) -> Iterator[None]:
    """Tells in one line that JSON is nested too deep."""
    try:
        yield
    except RecursionError as error:
        raise InputError(f"{source}: JSON nested too deep to be kept; fix the line") from error


class Records(Sequence[R]):
    """Records on disk, each read when it is asked for."""

    def __init__(self, rows: Sequence[dict[str, Any]], record: Callable[..., R], path: Path):
        self._rows, self._record, self._path = rows, record, path

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._rows[index % len(self)]
        source = f"{self._path}:{row['line']}"
        with _deep(source):
            return self._record(**json.loads(row["record"]), source=source)


def prepare(
    kind: Kind,
    path: str | Path,
    cache: str | Path,
    *,
    fraction: float,
    seed: int,
    identity: Identity | None = None,
    check: Check | None = None,
    records: Sequence[Any] | None = None,
    sha256: str | None = None,
    **options: Any,
) -> tuple[Sequence[Any], Sequence[Any]]:
    """The examples of a file, prepared once, as (train, held out).

    Args:
        kind: of the examples.
        path: file that the kind reads.
        cache: directory for prepared datasets.
        fraction: of the prompts that are held out.
        seed: of the split.
        identity: which prompts are one, as in `HeldOut`.
        check: looks at the sides, "train" and "held_out", before anything is written; at those
            in the cache too.
        records: what the kind reads in the file with these options, where it was read before.
        sha256: of the file's content, where it is known.
        **options: of the kind's reader.

    Returns:
        Records in the order of the file: those that were read, or, where the cache has them,
        equal ones that are read when they are asked for.

    Raises:
        InputError: as the reader, or of the check; a prompt that the template of the identity
            refuses. The cache is left as it was.
    """
    path, split = Path(path), HeldOut(fraction, seed, identity)
    names = [field.name for field in fields(kind.record)]
    key = f"{sha256 or _digest(path)} {kind.name} {names} {split} {sorted(options.items())}"
    directory = Path(cache) / hashlib.sha256(key.encode()).hexdigest()[:32]
    builder = JsonlRecords(sides={}, data_dir=str(directory))
    if not Path(builder.data_dir).exists():
        read = kind.read(path, **options) if records is None else records
        sides = split_by_prompt(read, fraction=fraction, seed=seed, identity=identity)
        _check(check, sides)
        _write(directory, dict(zip((TRAIN, HELD_OUT), sides, strict=True)))
        return sides
    rows = [
        builder.as_data_source(name) if name in builder.info.splits else ()
        for name in (TRAIN, HELD_OUT)
    ]
    found = (Records(rows[0], kind.record, path), Records(rows[1], kind.record, path))
    _check(check, found)
    return found


def _check(check: Check | None, sides: tuple[Sequence[Any], Sequence[Any]]) -> None:
    if check is not None:
        check({name: Side(side) for name, side in zip((TRAIN, HELD_OUT), sides, strict=True)})


def _write(directory: Path, sides: Mapping[str, Sequence[Any]]) -> None:
    """Writes the dataset, unless another process puts the same one there first."""
    rows = {name: [as_row(record) for record in side] for name, side in sides.items()}
    builder = JsonlRecords(sides=rows, data_dir=str(directory))
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory) as downloads:
                builder.download_and_prepare(download_dir=downloads)
        except (OSError, RuntimeError) as error:
            if not Path(builder.data_dir).exists():
                _check_space(directory, error)
                raise


def _check_space(directory: Path, error: Exception) -> None:
    """Raises `InputError` if an error is a full disk's, of which ArrayRecord has no type."""
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(code) in str(error):
            raise InputError(
                f"{directory}: cannot write: {os.strerror(code)}; make room or choose "
                "another directory"
            ) from error


def _digest(path: Path) -> str:
    try:
        return content_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
