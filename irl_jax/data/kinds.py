"""The kinds of files of examples: how each is read, encoded and collated.

A loss reads one kind of batch. `KINDS` says, by name, what a line of the file holds for
that kind, and holds the three functions that take it from the file to the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_jax.data import batches
from irl_jax.data.encode import Encoder
from irl_jax.data.encode_judged import (
    encode_rankings,
    encode_ratings,
    encode_scored,
    encode_steps,
)
from irl_jax.data.jsonl import (
    DemonstrationRecord,
    PreferenceRecord,
    PromptRecord,
    read_demonstrations,
    read_preferences,
    read_prompts,
)
from irl_jax.data.judged import (
    RankingRecord,
    RatingRecord,
    ScoredRecord,
    StepsRecord,
    read_rankings,
    read_ratings,
    read_scored,
    read_steps,
)
from irl_jax.data.lines import names, read_objects
from irl_jax.data.process_files import PROCESS_FILES
from irl_jax.types import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of examples, from the lines of a file to batches.

    Attributes:
        name: its key in `KINDS`.
        fields: what a line of the file holds, for people to read.
        known_by: sets of fields, each of which is enough to tell the kind.
        record: class of what is read: a dataclass with `prompt`, `tools` and `source`, whose
            other fields JSON can hold.
        read: (path, **options of the reader) -> iterator of records.
        encode: (encoder, records) -> list of items with `source` and `lengths`.
        collate: (items, None for a padding row; shape; pad_id) -> batch of NumPy arrays.
    """

    name: str
    fields: str
    known_by: tuple[tuple[str, ...], ...]
    record: type
    read: Callable[..., Iterator[Any]]
    encode: Callable[..., list[Any]]
    collate: Callable[..., Any]


def _rows(encoder: Encoder, records: Iterable[DemonstrationRecord]) -> list[batches.Row]:
    """Demonstrations as token ids, one to a row."""
    return batches.one_per_row(encoder.demonstrations(records))


_ALL = (
    Kind(
        "pairs",
        "prompt, chosen, rejected; or chosen and rejected conversations; optional: margin, weight",
        (("chosen", "rejected"),),
        PreferenceRecord,
        read_preferences,
        Encoder.preferences,
        batches.collate_preferences,
    ),
    Kind(
        "ratings",
        "prompt, completion, label (true or false) or score (a number); optional: weight",
        (("completion", "label"), ("completion", "score")),
        RatingRecord,
        read_ratings,
        encode_ratings,
        batches.collate_ratings,
    ),
    Kind(
        "rankings",
        "prompt, responses (the best first, or beside ranking or scores); optional: weight",
        (("prompt", "responses"),),
        RankingRecord,
        read_rankings,
        encode_rankings,
        batches.collate_rankings,
    ),
    Kind(
        "scored",
        "prompt, responses, scores (a number each), as many on every line",
        (("prompt", "responses", "scores"),),
        ScoredRecord,
        read_scored,
        encode_scored,
        batches.collate_scored,
    ),
    Kind(
        "steps",
        "prompt, completions (the steps of an answer), labels (true, false or 0 to 1; null: "
        "not judged); optional: weight; or a line of PRM800K, Math-Shepherd or ProcessBench",
        (("prompt", "completions", "labels"), *(form.fields for form in PROCESS_FILES.values())),
        StepsRecord,
        read_steps,
        encode_steps,
        batches.collate_steps,
    ),
    Kind(
        "demonstrations",
        "messages; or prompt, completion",
        (("messages",), ("prompt", "completion")),
        DemonstrationRecord,
        read_demonstrations,
        _rows,
        batches.collate_demonstrations,
    ),
    Kind(
        "prompts",
        "prompt; optional: whatever a verifier reads",
        (("prompt",),),
        PromptRecord,
        read_prompts,
        Encoder.prompts,
        batches.collate_prompts,
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
"""Name -> kind of examples."""


def guess(path: str | Path) -> Kind:
    """The kind of a file, by the fields of its first line: the one that reads most of them.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.

    Raises:
        InputError: as `read_objects`; the fields are those of no kind.
    """
    line, row = next(read_objects(path))
    found = [
        (len(fields), kind) for kind in _ALL for fields in kind.known_by if set(fields) <= set(row)
    ]
    if not found:
        known = "; ".join(f"{kind.name} ({kind.fields.replace(';', ',')})" for kind in _ALL)
        raise InputError(
            f"{path}:{line}: cannot tell the kind of examples by the fields {names(row)}; expected "
            f"those of {known}"
        )
    return max(found, key=lambda pair: pair[0])[1]
