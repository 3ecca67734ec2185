"""TFDS builders: JSON Lines to ArrayRecord, read at random, without TensorFlow.

A file is prepared once: its dataset lies in the given cache under a hash of its
content and of the split, and is found there the next time. TFDS writes into a
temporary directory and renames it at the end.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import tensorflow_datasets as tfds

from irl_jax.data.chat import Text
from irl_jax.data.identity import Identity
from irl_jax.data.jsonl import (
    DemonstrationRecord,
    PreferenceRecord,
    PromptRecord,
    Scores,
    read_preferences,
    read_prompts,
)
from irl_jax.types import InputError

R = TypeVar("R", bound=PreferenceRecord | PromptRecord | DemonstrationRecord)

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


@dataclass
class Side:
    """What falls on a side of a split.

    Attributes:
        records: how many.
        weight: the sum of their weights; of records without weights 0.
        source: `FILE:LINE` of the first.
    """

    records: int = 0
    weight: float = 0.0
    source: str = ""


# of the sides of a split, by name: raises `InputError` where they are of no use
Check = Callable[[dict[str, Side]], None]


def split_by_prompt(records: Iterable[R], *, fraction: float, seed: int) -> tuple[list[R], list[R]]:
    """Splits records so that all records of a prompt fall on one side.

    Args:
        records: preferences, prompts or demonstrations.
        fraction: of the prompts that are held out, 0 to 1.
        seed: of the split.

    Returns:
        (train, held out), each in the order of the records.

    Raises:
        InputError: a fraction outside [0, 1].
    """
    split = HeldOut(fraction, seed)
    sides: dict[str, list[R]] = {TRAIN: [], HELD_OUT: []}
    for record in records:
        sides[split.name(record.prompt, record.tools)].append(record)
    return sides[TRAIN], sides[HELD_OUT]


class _LocalInfo(tfds.core.DatasetInfo):
    """A dataset that no bucket knows: TFDS leaves a temporary directory when it asks."""

    def initialize_from_bucket(self) -> None:
        """Nothing: what is not on disk is not yet prepared."""


class _RecordBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC):
    """Records that a reader yields, in their order, split by prompt."""

    VERSION = tfds.core.Version("1.1.0")
    code_path = None  # nothing is downloaded: no checksums to look for beside the code

    def __init__(self, *, read: Callable[[], Iterator[Any]], split: HeldOut, **options: Any):
        self._read, self._split = read, split
        self._sides: list[str] = []
        super().__init__(file_format="array_record", **options)

    @staticmethod
    @abc.abstractmethod
    def columns() -> dict[str, Any]:
        """TFDS features of a row."""

    @staticmethod
    @abc.abstractmethod
    def encode(record: Any) -> dict[str, Any]:
        """A record as a row."""

    @staticmethod
    @abc.abstractmethod
    def decode(row: dict[str, Any], source: str) -> Any:
        """A row as the record it was."""

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Records of a JSON Lines file, split by prompt.",
            features=tfds.features.FeaturesDict(
                self.columns()
                | {
                    "line": tfds.features.Scalar(np.int64),
                    "messages": tfds.features.Scalar(np.bool_),
                    "tools": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def survey(self) -> dict[str, Side]:
        """Reads every record, and finds the side of each; nothing is written.

        Raises:
            InputError: a line that cannot be read, a prompt that the template refuses.
        """
        found: dict[str, Side] = {TRAIN: Side(), HELD_OUT: Side()}
        self._sides = []
        for record in self._read():
            try:
                name = self._split.name(record.prompt, record.tools)
            except InputError as error:
                raise InputError(f"{record.source}: {error}") from error
            side = found[name]
            self._sides.append(name)
            side.records += 1
            side.weight += getattr(record, "weight", 0.0)
            side.source = side.source or record.source
        return found

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(name) for name in sorted(set(self._sides))}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (record, side) in enumerate(zip(self._read(), self._sides, strict=True)):
            if side == split:
                line = int(record.source.rpartition(":")[2])
                own = {"line": line, "messages": not isinstance(record.prompt, str)}
                yield i, self.encode(record) | own | {"tools": json.dumps(record.tools)}


class JsonlPreferences(_RecordBuilder):
    """Preferences: prompt, chosen, rejected, margin, weight, line.

    The three texts are JSON where `messages` is true: lists of messages.
    """

    @staticmethod
    def columns() -> dict[str, Any]:
        """TFDS features of a row."""
        texts = {name: tfds.features.Text() for name in ("prompt", "chosen", "rejected")}
        return texts | {n: tfds.features.Scalar(np.float32) for n in ("margin", "weight")}

    @staticmethod
    def encode(record: PreferenceRecord) -> dict[str, Any]:
        """A record as a row."""
        return {
            "prompt": _dump(record.prompt),
            "chosen": _dump(record.chosen),
            "rejected": _dump(record.rejected),
            "margin": record.margin,
            "weight": record.weight,
        }

    @staticmethod
    def decode(row: dict[str, Any], source: str) -> PreferenceRecord:
        """A row as the record it was."""
        return PreferenceRecord(
            prompt=_load(row, "prompt"),
            chosen=_load(row, "chosen"),
            rejected=_load(row, "rejected"),
            margin=float(row["margin"]),
            weight=float(row["weight"]),
            source=source,
            tools=json.loads(row["tools"]),
        )


class JsonlPrompts(_RecordBuilder):
    """Prompts: prompt (JSON where `messages` is true), fields (JSON), line."""

    @staticmethod
    def columns() -> dict[str, Any]:
        """TFDS features of a row."""
        return {name: tfds.features.Text() for name in ("prompt", "fields")}

    @staticmethod
    def encode(record: PromptRecord) -> dict[str, Any]:
        """A record as a row."""
        return {"prompt": _dump(record.prompt), "fields": json.dumps(record.fields)}

    @staticmethod
    def decode(row: dict[str, Any], source: str) -> PromptRecord:
        """A row as the record it was."""
        fields, tools = (json.loads(row[name]) for name in ("fields", "tools"))
        return PromptRecord(_load(row, "prompt"), fields, source, tools)


class Records(Sequence[R]):
    """Records on disk, each read when it is asked for."""

    def __init__(self, rows: Sequence[dict[str, Any]], decode: Callable[..., R], path: Path):
        self._rows, self._decode, self._path = rows, decode, path

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._rows[index % len(self)]
        return self._decode(row, f"{self._path}:{row['line']}")


def prepare_preferences(
    path: str | Path,
    cache: str | Path,
    *,
    fraction: float,
    seed: int,
    ties: Literal["error", "drop"] = "error",
    scores: Scores = "error",
    identity: Identity | None = None,
    check: Check | None = None,
) -> tuple[Records[PreferenceRecord], Records[PreferenceRecord]]:
    """The preferences of a JSON Lines file, prepared once, as (train, held out).

    Args:
        path: file that `read_preferences` reads.
        cache: directory for prepared datasets.
        fraction: of the prompts that are held out.
        seed: of the split.
        ties: as in `read_preferences`.
        scores: as in `read_preferences`.
        identity: which prompts are one, as in `HeldOut`.
        check: looks at the sides before anything is written.

    Raises:
        InputError: as `read_preferences`, or of the check; the cache is left as it was.
    """
    read = partial(read_preferences, path, ties=ties, scores=scores)
    split, option = HeldOut(fraction, seed, identity), f"{ties} {scores}"
    return _prepare(JsonlPreferences, read, Path(path), Path(cache), split, option, check)


def prepare_prompts(
    path: str | Path,
    cache: str | Path,
    *,
    fraction: float,
    seed: int,
    prompt_field: str = "prompt",
    identity: Identity | None = None,
) -> tuple[Records[PromptRecord], Records[PromptRecord]]:
    """The prompts of a JSON Lines file, prepared once, as (train, held out).

    Args:
        path: file that `read_prompts` reads.
        cache: directory for prepared datasets.
        fraction: of the prompts that are held out.
        seed: of the split.
        prompt_field: as in `read_prompts`.
        identity: which prompts are one, as in `HeldOut`.

    Raises:
        InputError: as `read_prompts`; the cache is left as it was.
    """
    read = partial(read_prompts, path, prompt_field=prompt_field)
    split = HeldOut(fraction, seed, identity)
    return _prepare(JsonlPrompts, read, Path(path), Path(cache), split, prompt_field)


def _prepare(
    kind: type[_RecordBuilder],
    read: Callable[[], Iterator[Any]],
    path: Path,
    cache: Path,
    split: HeldOut,
    option: str,
    check: Check | None = None,
) -> tuple[Records[Any], Records[Any]]:
    directory = cache / _content_hash(path, f"{split} {option}")
    make = lambda: kind(read=read, split=split, data_dir=str(directory))
    builder = make()
    if not Path(builder.data_dir).exists():
        sides = builder.survey()  # every error is found before anything is written
        if check is not None:
            check(sides)
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
                builder = make()  # another process has put the same dataset there first
    rows = [
        builder.as_data_source(name) if name in builder.info.splits else ()
        for name in (TRAIN, HELD_OUT)
    ]
    return Records(rows[0], kind.decode, path), Records(rows[1], kind.decode, path)


def _check_space(directory: Path, error: Exception) -> None:
    """Raises `InputError` if an error is a full disk's, of which ArrayRecord has no type."""
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(code) in str(error):
            raise InputError(
                f"{directory}: cannot write: {os.strerror(code)}; make room or choose "
                "another directory"
            ) from error


def _content_hash(path: Path, options: str) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    digest.update(options.encode())
    return digest.hexdigest()[:32]


def _dump(text: Text) -> str:
    return text if isinstance(text, str) else json.dumps(text)


def _load(row: dict[str, Any], name: str) -> Any:
    text = row[name].decode()
    return json.loads(text) if row["messages"] else text
