"""Records to judge a reward by: chosen against rejected responses, or responses with scores.

A line is one of these, all with an optional `id` and `subset`:

* a preference in any of the forms of `irl_jax.data.jsonl` (RewardBench:
  `prompt`, `chosen`, `rejected`, `subset`, `id`);
* `prompt` with lists of responses as `chosen` and `rejected` (RewardBench 2: one
  chosen and three rejected, or, where many answers are right, several of each);
* `prompt`, `responses` (a list) and `scores` (a number each): judged one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irl_jax.data.chat import Text
from irl_jax.data.extras import tools_of
from irl_jax.data.fields import field
from irl_jax.data.jsonl import Scores, reversed_scores, sides_of
from irl_jax.data.judged import scored_of
from irl_jax.data.lines import read_objects
from irl_jax.types import InputError

WHOLE = "all"  # subset of a line that names none


@dataclass(frozen=True)
class EvaluationRecord:
    """A prompt, responses to it, and what is known of their order.

    Attributes:
        prompt: plain text or messages.
        responses: at least two, the chosen ones first; without the prompt.
        chosen: number of chosen responses; 0 where there are scores instead.
        scores: a number for each response, or None.
        subset: the part of the file that it counts in.
        id: the line's own, or the number of the line.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    responses: list[Text]
    chosen: int
    scores: list[float] | None
    subset: str
    id: str
    source: str
    tools: list[Any] | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) of every two responses whose order is known."""
        n = len(self.responses)
        if self.scores is None:
            return [(i, j) for i in range(self.chosen) for j in range(self.chosen, n)]
        return [(i, j) for i in range(n) for j in range(n) if self.scores[i] > self.scores[j]]


def read_evaluation(
    path: str | Path, *, ties: Literal["error", "drop"] = "error", scores: Scores = "error"
) -> Iterator[EvaluationRecord]:
    """Yields the records of a file.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        ties: what becomes of a line with a response that is both chosen and rejected.
        scores: what becomes of one whose `score_chosen` is below its `score_rejected`.

    Raises:
        InputError: as `read_preferences`; lists that are empty or of different lengths,
            responses to different prompts, scores that are no numbers.
    """
    for line, row in read_objects(path):
        record = evaluation_of(row, line, f"{path}:{line}", ties=ties, scores=scores)
        if record is not None:
            yield record


def evaluation_of(
    row: dict[str, Any],
    place: int | str,
    source: str,
    *,
    ties: Literal["error", "drop"] = "error",
    scores: Scores = "error",
) -> EvaluationRecord | None:
    """The record of an object in one of the forms of this module; None if it is dropped.

    Args:
        row: the object.
        place: its id, if it has none of its own.
        source: `FILE:LINE`.
        ties: as `read_evaluation`.
        scores: as `read_evaluation`.

    Raises:
        InputError: as `read_evaluation`.
    """
    subset, name = row.get("subset", WHOLE), row.get("id", place)
    if not isinstance(subset, str) or not subset:
        raise InputError(f"{source}: `subset` is {subset!r}; expected a name")
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError(f"{source}: `id` is {name!r}; expected a string or a whole number")
    values = None
    if "scores" in row or ("responses" in row and "chosen" not in row):
        prompt, responses, values = scored_of(row, source)
        chosen = 0
    else:
        better, worse = (_several(row, side, source) for side in ("chosen", "rejected"))
        if len(better) == len(worse) == 1 and reversed_scores(row, source, scores):
            better, worse = worse, better
        names = ["chosen"] * len(better) + ["rejected"] * len(worse)
        prompt, responses = sides_of(row, [*better, *worse], names, source)
        chosen = len(better)
        if any(response in responses[chosen:] for response in responses[:chosen]):
            if ties == "drop":
                return None
            raise InputError(
                f"{source}: `chosen` equals `rejected`; remove the line or read with ties='drop'"
            )
    tools = tools_of(row, source)
    return EvaluationRecord(prompt, responses, chosen, values, subset, str(name), source, tools)


def _several(row: dict[str, Any], side: str, source: str) -> list[Any]:
    """The responses of a side: a list of messages is one, of anything else several."""
    value = field(row, side, source)
    if not isinstance(value, list) or any(isinstance(item, dict) for item in value):
        return [value]
    if not value:
        raise InputError(f"{source}: `{side}` is an empty list; expected a response")
    return value
