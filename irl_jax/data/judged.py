"""JSON Lines files of judged responses: ratings, rankings, scores, labels of steps.

Each reader yields records as those of `irl_jax.data.jsonl`: texts are plain or messages,
a response may repeat its prompt as a side of a preference may, `tools` and a `system`
column are kept, and what is wrong with a line is said as `FILE:LINE: what; fix`. A line has

* a rating: `prompt`, `completion` and a `label` (true or false, 1 or 0, as TRL's unpaired
  preferences) or a `score`;
* a ranking: `prompt` and `responses`, the best first, or in any order beside `ranking` (1 is
  the best) or `scores` (the highest is the best);
* scored responses: `prompt`, `responses` and `scores`, as many on every line;
* labelled steps: `prompt`, `completions` (the steps of one answer) and `labels`, as TRL's
  stepwise supervision; or a line of PRM800K, Math-Shepherd or ProcessBench
  (`irl_jax.data.process_files`).

Each but scored responses may have a `weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from irl_jax.data.chat import Text, as_messages
from irl_jax.data.extras import tools_of
from irl_jax.data.fields import Weights, field, number
from irl_jax.data.jsonl import sides_of
from irl_jax.data.lines import kind, names, read_objects, shown
from irl_jax.data.process_files import as_steps
from irl_jax.types import InputError

Scale = Literal["number", "probability", "category"]  # what a score may be


@dataclass(frozen=True)
class RatingRecord:
    """A completion of a prompt, and how it was judged.

    Attributes:
        prompt: plain text or messages.
        completion: the completion alone, of the same kind.
        score: 1 for good and 0 for bad, a number, or a category 0, 1, ...
        weight: weight of the rating.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completion: Text
    score: float
    weight: float
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class RankingRecord:
    """Completions of a prompt in order of preference.

    Attributes:
        prompt: plain text or messages.
        completions: two or more, of the same kind, the best first.
        weight: weight of the ranking.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completions: list[Text]
    weight: float
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class ScoredRecord:
    """Completions of a prompt, each with a score.

    Attributes:
        prompt: plain text or messages.
        completions: K completions, of the same kind.
        scores: K numbers.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completions: list[Text]
    scores: list[float]
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class StepsRecord:
    """A completion of a prompt whose steps were judged.

    Attributes:
        prompt: plain text or messages.
        completion: the steps as one text, or as one message of the assistant.
        ends: where each step ends, in characters of the text.
        labels: of each step, in [0, 1]; None: it was not judged.
        weight: weight of each step.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completion: Text
    ends: list[int]
    labels: list[float | None]
    weight: float
    source: str
    tools: list[Any] | None = None


def read_ratings(
    path: str | Path,
    *,
    completion_field: str = "completion",
    scale: Scale = "number",
) -> Iterator[RatingRecord]:
    """Yields the ratings of a file.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        completion_field: field with the completion.
        scale: what a `score` may be: any "number", a "probability" in [0, 1], or a
            "category" 0, 1, ... A `label` is all three.

    Raises:
        InputError: as `read_preferences`; neither a label nor a score, or both; a label
            that is neither good nor bad, a score that is not what it may be.
    """
    weights = Weights()
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        field(row, "prompt", source)
        given = field(row, completion_field, source)
        prompt, (completion,) = sides_of(row, [given], [completion_field], source)
        score = _judged(row, source, scale)
        own = weights.of(row, source)
        yield RatingRecord(prompt, completion, score, own, source, tools_of(row, source))


def read_rankings(
    path: str | Path, *, ties: Literal["error", "drop"] = "error"
) -> Iterator[RankingRecord]:
    """Yields the rankings of a file; lines may differ in how many responses they rank.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        ties: what becomes of a line with equal scores, or the same response twice.

    Raises:
        InputError: as `read_preferences`; fewer than two responses, ranks that are not 1
            to K, both ranks and scores.
    """
    weights = Weights()
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        prompt, responses = _responses(row, source)
        tie = None
        if "scores" in row:
            if "ranking" in row:
                raise InputError(f"{source}: has `ranking` and `scores`; remove one of them")
            scores = _numbers(row, "scores", len(responses), source)
            order = sorted(range(len(scores)), key=lambda i: -scores[i])
            tie = _first_equal(scores, "scores")
        elif "ranking" in row:
            order = _order(row, len(responses), source)
        else:
            order = list(range(len(responses)))
        tie = tie or _first_equal(responses, "responses")
        if tie and ties == "drop":
            continue
        if tie:
            raise InputError(f"{source}: {tie}; remove one, or read with ties='drop'")
        ranked = [responses[i] for i in order]
        own = weights.of(row, source)
        yield RankingRecord(prompt, ranked, own, source, tools_of(row, source))


def read_scored(path: str | Path) -> Iterator[ScoredRecord]:
    """Yields the scored responses of a file, K on every line.

    `read_rankings` reads the same file as rankings, where no two scores of a line are
    equal.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.

    Raises:
        InputError: as `read_preferences`; fewer than two responses, another number of
            scores, lines that differ in K, a weight.
    """
    k = 0
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        prompt, responses, scores = scored_of(row, source)
        k = k or len(responses)
        if len(responses) != k:
            raise InputError(
                f"{source}: {len(responses)} `responses`, but lines before have {k}; give each "
                "prompt as many"
            )
        if row.get("weight", 1) != 1:
            raise InputError(
                f"{source}: `weight` is not read beside `scores`; remove it, or give a line for "
                "each response (prompt, completion, score, weight)"
            )
        yield ScoredRecord(prompt, responses, scores, source, tools_of(row, source))


def read_steps(path: str | Path, *, step_separator: str = "\n") -> Iterator[StepsRecord]:
    """Yields the answers of a file whose steps were judged.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        step_separator: stands between two steps.

    Raises:
        InputError: as `read_preferences`; no step, a step that is no text or is blank,
            another number of labels, a label outside [0, 1], no label at all.
    """
    weights = Weights()
    for line, given in read_objects(path):
        source = f"{path}:{line}"
        row = as_steps(given, source)
        field(row, "prompt", source)
        steps = field(row, "completions", source)
        if not isinstance(steps, list) or not steps:
            raise InputError(f"{source}: `completions` is {kind(steps)}; expected a list of steps")
        for i, step in enumerate(steps):
            if not isinstance(step, str) or not step.strip():
                what = "blank" if isinstance(step, str) else kind(step)
                raise InputError(f"{source}: `completions[{i}]` is {what}; expected a step's text")
        labels = _beside(row, "labels", len(steps), "`completions`", source)
        found = [_step_label(label, f"labels[{i}]", source) for i, label in enumerate(labels)]
        if all(label is None for label in found):
            raise InputError(f"{source}: every one of `labels` is null; judge a step, or remove it")
        text = step_separator.join(steps)
        prompt, (completion,) = sides_of(row, [text], ["completions"], source)
        if as_messages(completion, "assistant") != as_messages(text, "assistant"):
            raise InputError(
                f"{source}: `completions` are a conversation; expected the steps of one answer"
            )
        lengths = [len(step) + len(step_separator) for step in steps]
        ends = [end - len(step_separator) for end in accumulate(lengths)]
        own = weights.of(row, source)
        yield StepsRecord(prompt, completion, ends, found, own, source, tools_of(row, source))


def scored_of(row: dict[str, Any], source: str) -> tuple[Text, list[Text], list[float]]:
    """The prompt of a line, its responses without it, and their scores.

    Args:
        row: an object with `prompt`, `responses` and `scores`.
        source: `FILE:LINE`.

    Raises:
        InputError: a missing field, a wrong type, another number of scores.
    """
    prompt, responses = _responses(row, source)
    return prompt, responses, _numbers(row, "scores", len(responses), source)


def _responses(row: dict[str, Any], source: str) -> tuple[Text, list[Text]]:
    field(row, "prompt", source)
    given = field(row, "responses", source)
    if not isinstance(given, list) or len(given) < 2:
        raise InputError(f"{source}: `responses`: expected a list of 2 or more")
    names = [f"responses[{i}]" for i in range(len(given))]
    return sides_of(row, given, names, source)


def _beside(row: dict[str, Any], name: str, count: int, what: str, source: str) -> list[Any]:
    """A list of one value for each of `count` texts."""
    values = field(row, name, source)
    if not isinstance(values, list):
        raise InputError(f"{source}: `{name}` is {kind(values)}; expected a list")
    if len(values) != count:
        raise InputError(f"{source}: {count} {what} and {len(values)} `{name}`; give each one")
    return values


def _numbers(row: dict[str, Any], name: str, count: int, source: str) -> list[float]:
    values = _beside(row, name, count, "`responses`", source)
    return [number(value, f"{name}[{i}]", source) for i, value in enumerate(values)]


def _order(row: dict[str, Any], count: int, source: str) -> list[int]:
    """The responses from the best to the worst, by `ranking`."""
    ranks = _numbers(row, "ranking", count, source)
    if sorted(ranks) != list(range(1, count + 1)):
        raise InputError(
            f"{source}: `ranking` is {shown(row['ranking'])}; expected each of 1 to {count} once, "
            "the rank of each response, 1 for the best"
        )
    return sorted(range(count), key=lambda i: ranks[i])


def _first_equal(values: Sequence[Any], name: str) -> str | None:
    """Names the first two values that are equal; None if no two are."""
    for j, value in enumerate(values):
        if value in values[:j]:
            return f"`{name}[{values.index(value)}]` equals `{name}[{j}]`"
    return None


def _judged(row: dict[str, Any], source: str, scale: Scale) -> float:
    """The `label` or the `score` of a line."""
    if "label" not in row:
        if "score" not in row:
            raise InputError(
                f"{source}: no field `label` or `score` (fields: {names(row)}); add one"
            )
        score = number(row["score"], "score", source)
        if scale == "probability" and not 0 <= score <= 1:
            raise InputError(f"{source}: `score` is {score:g}; expected a number from 0 to 1")
        if scale == "category" and not (score >= 0 and score == int(score)):
            raise InputError(f"{source}: `score` is {score:g}; expected a category 0, 1, 2, ...")
        return score
    if "score" in row:
        raise InputError(f"{source}: has `label` and `score`; remove one of them")
    label = row["label"]
    if not isinstance(label, int | float) or label not in (0, 1):
        raise InputError(
            f"{source}: `label` is {kind(label)}; expected true, false, 1 or 0 (for other numbers "
            "name it `score`)"
        )
    return float(label)


def _step_label(value: Any, name: str, source: str) -> float | None:
    if value is None or isinstance(value, bool):
        return None if value is None else float(value)
    label = number(value, name, source)
    if not 0 <= label <= 1:
        raise InputError(
            f"{source}: `{name}` is {label:g}; expected true, false or a number from 0 to 1"
        )
    return label
