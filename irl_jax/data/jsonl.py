r"""JSON Lines files to records: preferences, prompts, demonstrations.

A file is read line by line, plain or gzipped, or row by row, of Parquet. What is wrong with a
line is said as `FILE:LINE: what; fix`.

A text is either plain (`str`) or a conversation (a list of `{"role", "content"}`
messages). The forms of a preference that are read:

* `prompt`, `chosen`, `rejected`, all strings;
* `prompt` a list of messages (or a string, meaning one user message) and
  `chosen`, `rejected` lists of messages, with or without the prompt repeated, whole or in
  part (see `irl_jax.data.turns`);
* `chosen` and `rejected` lists of messages that begin alike, no `prompt`: the
  messages that they share are the prompt;
* `chosen` and `rejected` whole `\n\nHuman: ...\n\nAssistant: ...` dialogues, with or
  without `prompt` (Anthropic's HH-RLHF): read as messages, then as above.

`tools`, a `system` column, and fields of messages such as `tool_calls` are kept for the
chat template, see `irl_jax.data.extras`. Optional fields of a preference: `margin`, or
`score_chosen` and `score_rejected` (their difference is the margin); `weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irl_jax.data.chat import Message, Text
from irl_jax.data.extras import check_unread, tools_of, with_system
from irl_jax.data.fields import Weights, field, number, text_of
from irl_jax.data.lines import read_objects
from irl_jax.data.turns import check_prompt, separate
from irl_jax.types import InputError

Scores = Literal["error", "swap"]  # what becomes of a pair whose scores contradict its sides


@dataclass(frozen=True)
class PreferenceRecord:
    """A prompt, a better and a worse completion of it.

    Attributes:
        prompt: plain text or messages.
        chosen: the completion alone: plain where the prompt is plain, messages
            where it is messages.
        rejected: as `chosen`.
        margin: by how much chosen was rated above rejected; 0 if unknown.
        weight: weight of the pair.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    margin: float
    weight: float
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class PromptRecord:
    """A prompt, and whatever else its line holds (answers, for verifiers).

    Attributes:
        prompt: plain text or messages.
        fields: the line's other fields.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    fields: dict[str, Any]
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class GroupRecord:
    """A prompt and K completions of it.

    Attributes:
        prompt: plain text or messages.
        completions: the completions alone, of the same kind.
        fields: what else is known of them.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completions: list[Text]
    fields: dict[str, Any]
    source: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class DemonstrationRecord:
    """A prompt and a completion of it to imitate.

    Attributes:
        prompt: plain text or messages.
        completion: the completion alone, of the same kind.
        source: `FILE:LINE`.
        tools: what the model may call, or None.
    """

    prompt: Text
    completion: Text
    source: str
    tools: list[Any] | None = None


def read_preferences(
    path: str | Path,
    *,
    ties: Literal["error", "drop", "keep"] = "error",
    scores: Scores = "error",
) -> Iterator[PreferenceRecord]:
    """Yields the pairs of a file, in any of the forms of this module.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        ties: what becomes of a pair whose sides are equal.
        scores: what becomes of a pair whose `score_chosen` is below its `score_rejected`.

    Raises:
        InputError: as `read_objects`; a missing field, a wrong type, equal sides,
            sides that answer different prompts, a number that f32 cannot hold, weights that
            add up to one.
    """
    weights = Weights()
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        names = ("chosen", "rejected")
        sides = [field(row, name, source) for name in names]
        prompt, (chosen, rejected) = sides_of(row, sides, names, source)
        if chosen == rejected and ties != "keep":
            if ties == "drop":
                continue
            raise InputError(
                f"{source}: `chosen` equals `rejected`; remove the line or read with ties='drop'"
            )
        margin = _margin(row, source)
        if reversed_scores(row, source, scores):
            chosen, rejected, margin = rejected, chosen, -margin
        own = weights.of(row, source)
        yield PreferenceRecord(prompt, chosen, rejected, margin, own, source, tools_of(row, source))


def read_prompts(path: str | Path, *, prompt_field: str = "prompt") -> Iterator[PromptRecord]:
    """Yields the prompts of a file.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        prompt_field: field with the prompt, a string or a list of messages.

    Raises:
        InputError: as `read_objects`; a missing field or a wrong type.
    """
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        prompt = text_of(field(row, prompt_field, source), prompt_field, source)
        if isinstance(prompt, list):
            check_prompt(prompt, source)
        check_unread(row, source)
        prompt, _ = with_system(row, prompt, (), source)
        used = (prompt_field, "tools", "system", "system_prompt")
        rest = {name: value for name, value in row.items() if name not in used}
        yield PromptRecord(prompt, rest, source, tools_of(row, source))


def read_demonstrations(
    path: str | Path, *, prompt_field: str = "prompt", completion_field: str = "completion"
) -> Iterator[DemonstrationRecord]:
    """Yields the demonstrations of a file.

    A line holds a prompt and a completion (strings or lists of messages), or `messages`:
    from the first answer of the assistant on they are the completion, so that every turn
    of the assistant is imitated, as by TRL with `assistant_only_loss`. To imitate the last
    answer alone, give it as the completion.

    Args:
        path: JSON Lines (`.gz` if gzipped) or Parquet, as `read_objects` reads them.
        prompt_field: field with the prompt.
        completion_field: field with the completion.

    Raises:
        InputError: as `read_objects`; a missing field or a wrong type.
    """
    for line, row in read_objects(path):
        source = f"{path}:{line}"
        prompt: Text
        given: Text
        if "messages" in row and prompt_field not in row:
            messages = text_of(row["messages"], "messages", source)
            if isinstance(messages, str):
                raise InputError(f"{source}: `messages` is a string; expected a list of messages")
            prompt, given, name = messages[: _first_answer(messages)], messages, "messages"
        else:
            prompt, given = (
                text_of(field(row, own, source), own, source)
                for own in (prompt_field, completion_field)
            )
            name = completion_field
        check_unread(row, source)
        prompt, completions = separate(prompt, [given], [name], source)
        prompt, (completion,) = with_system(row, prompt, completions, source)
        yield DemonstrationRecord(prompt, completion, source, tools_of(row, source))


def sides_of(
    row: dict[str, Any], sides: Sequence[Any], names: Sequence[str], source: str
) -> tuple[Text, list[Text]]:
    """The prompt of a line and completions of it, in any of the forms of this module.

    Args:
        row: an object with or without `prompt`.
        sides: the completions, as the line gives them.
        names: what the line calls each.
        source: `FILE:LINE`.

    Returns:
        The prompt and the completions alone: all plain, or all messages.

    Raises:
        InputError: a wrong type, sides that answer different prompts, a field that would be
            lost.
    """
    prompt = text_of(row["prompt"], "prompt", source) if "prompt" in row else None
    texts = [text_of(side, name, source) for side, name in zip(sides, names, strict=True)]
    check_unread(row, source)
    prompt, completions = separate(prompt, texts, names, source)
    return with_system(row, prompt, completions, source)


def reversed_scores(row: dict[str, Any], source: str, scores: Scores) -> bool:
    """Whether the sides of a line are to be swapped, since its scores say so.

    Args:
        row: an object with `score_chosen` and `score_rejected`, or without.
        source: `FILE:LINE`.
        scores: what becomes of a line whose chosen side has the lower score.

    Raises:
        InputError: it has, and that is an error.
    """
    if not {"score_chosen", "score_rejected"} <= set(row):
        return False
    first, second = (number(row[n], n, source) for n in ("score_chosen", "score_rejected"))
    if first < second and scores == "error":
        raise InputError(
            f"{source}: `score_chosen` {first:g} is below `score_rejected` {second:g}; swap the "
            "sides, remove the scores, or set scores to swap"
        )
    return first < second


def _first_answer(messages: list[Message]) -> int:
    """The place of the first assistant's message that answers another one."""
    for i, message in enumerate(messages):
        if i and message["role"] == "assistant" != messages[i - 1]["role"]:
            return i
    return len(messages) - 1


def _margin(row: dict[str, Any], source: str) -> float:
    if "margin" in row:
        return number(row["margin"], "margin", source)
    if not ("score_chosen" in row or "score_rejected" in row):
        return 0.0
    chosen, rejected = (
        number(field(row, name, source), name, source)
        for name in ("score_chosen", "score_rejected")
    )
    return number(chosen - rejected, "score_chosen - score_rejected", source)
