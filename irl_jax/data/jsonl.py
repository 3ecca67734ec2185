r"""JSON Lines files to records: preferences, prompts, demonstrations.

A file is read line by line, plain or gzipped (`.gz`). What is wrong with a line
is said as `FILE:LINE: what; fix`.

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

Optional fields of a preference: `margin`, or `score_chosen` and
`score_rejected` (their difference is the margin); `weight`.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irl_jax.data.chat import ROLES, Message, Text
from irl_jax.data.turns import check_prompt, separate
from irl_jax.types import InputError


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
    """

    prompt: Text
    chosen: Text
    rejected: Text
    margin: float
    weight: float
    source: str


@dataclass(frozen=True)
class PromptRecord:
    """A prompt, and whatever else its line holds (answers, for verifiers).

    Attributes:
        prompt: plain text or messages.
        fields: the line's other fields.
        source: `FILE:LINE`.
    """

    prompt: Text
    fields: dict[str, Any]
    source: str


@dataclass(frozen=True)
class GroupRecord:
    """A prompt and K completions of it.

    Attributes:
        prompt: plain text or messages.
        completions: the completions alone, of the same kind.
        fields: what else is known of them.
        source: `FILE:LINE`.
    """

    prompt: Text
    completions: list[Text]
    fields: dict[str, Any]
    source: str


@dataclass(frozen=True)
class DemonstrationRecord:
    """A prompt and a completion of it to imitate.

    Attributes:
        prompt: plain text or messages.
        completion: the completion alone, of the same kind.
        source: `FILE:LINE`.
    """

    prompt: Text
    completion: Text
    source: str


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of a JSON Lines file; skips blank lines.

    Raises:
        InputError: no such file, an unreadable or empty file, broken JSON, a
            line that is no object.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    found = False
    number = 0
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                yield number, _parse(f"{path}:{number}", line)
                found = True
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}:{number + 1}: cannot be read ({error}); check the file"
        ) from error
    if not found:
        raise InputError(f"{path}: empty file; expected one JSON object a line")


def _parse(source: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 ({error.reason}); convert the file") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{source}: broken JSON, {error.msg} at column {error.colno}; mend or remove the line"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"{source}: expected a JSON object, got {_kind(value)}; one {{...}} a line"
        )
    return value


def read_preferences(
    path: str | Path, *, ties: Literal["error", "drop", "keep"] = "error"
) -> Iterator[PreferenceRecord]:
    """Yields the pairs of a file, in any of the forms of this module.

    Args:
        path: JSON Lines file, `.gz` if gzipped.
        ties: what becomes of a pair whose sides are equal.

    Raises:
        InputError: as `read_jsonl`; a missing field, a wrong type, equal sides,
            sides that answer different prompts.
    """
    for number, row in read_jsonl(path):
        source = f"{path}:{number}"
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
        weight = _number(row, "weight", source, 1.0)
        if weight < 0:
            raise InputError(f"{source}: `weight` is {weight}; expected 0 or more")
        yield PreferenceRecord(prompt, chosen, rejected, margin, weight, source)


def read_prompts(path: str | Path, *, prompt_field: str = "prompt") -> Iterator[PromptRecord]:
    """Yields the prompts of a file.

    Args:
        path: JSON Lines file, `.gz` if gzipped.
        prompt_field: field with the prompt, a string or a list of messages.

    Raises:
        InputError: as `read_jsonl`; a missing field or a wrong type.
    """
    for number, row in read_jsonl(path):
        source = f"{path}:{number}"
        prompt = _text(field(row, prompt_field, source), prompt_field, source)
        if isinstance(prompt, list):
            check_prompt(prompt, source)
        rest = {name: value for name, value in row.items() if name != prompt_field}
        yield PromptRecord(prompt, rest, source)


def read_demonstrations(
    path: str | Path, *, prompt_field: str = "prompt", completion_field: str = "completion"
) -> Iterator[DemonstrationRecord]:
    """Yields the demonstrations of a file.

    A line holds a prompt and a completion (strings or lists of messages), or
    `messages`, of which the last, the assistant's, is the completion.

    Args:
        path: JSON Lines file, `.gz` if gzipped.
        prompt_field: field with the prompt.
        completion_field: field with the completion.

    Raises:
        InputError: as `read_jsonl`; a missing field or a wrong type.
    """
    for number, row in read_jsonl(path):
        source = f"{path}:{number}"
        prompt: Text
        given: Text
        if "messages" in row and prompt_field not in row:
            messages = _text(row["messages"], "messages", source)
            if isinstance(messages, str):
                raise InputError(f"{source}: `messages` is a string; expected a list of messages")
            prompt, given, name = messages[:-1], messages, "messages"
        else:
            prompt, given = (
                _text(field(row, own, source), own, source)
                for own in (prompt_field, completion_field)
            )
            name = completion_field
        prompt, (completion,) = separate(prompt, [given], [name], source)
        yield DemonstrationRecord(prompt, completion, source)


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
        InputError: a wrong type, sides that answer different prompts.
    """
    prompt = _text(row["prompt"], "prompt", source) if "prompt" in row else None
    texts = [_text(side, name, source) for side, name in zip(sides, names, strict=True)]
    return separate(prompt, texts, names, source)


def field(row: dict[str, Any], name: str, source: str) -> Any:
    """A field of an object, which there must be.

    Raises:
        InputError: there is none.
    """
    if name not in row:
        has = ", ".join(row) or "none"
        raise InputError(f"{source}: no field `{name}` (fields: {has}); add or rename it")
    return row[name]


def _text(value: Any, name: str, source: str) -> Text:
    """Checks a string or a list of messages; keeps role and content alone."""
    if isinstance(value, str):
        return _encodable(value, name, source)
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{source}: `{name}` is {_kind(value)}; expected a string or a list of messages"
        )
    messages: list[Message] = []
    for i, message in enumerate(value):
        place = f"{name}[{i}]"
        if not isinstance(message, dict):
            raise InputError(f"{source}: `{place}` is {_kind(message)}; expected an object")
        role, content = (
            field(message, key, f"{source}: `{place}`") for key in Message.__annotations__
        )
        if role not in ROLES:
            raise InputError(
                f"{source}: `{place}.role` is {role!r}; expected one of {', '.join(ROLES)}"
            )
        if not isinstance(content, str):
            raise InputError(f"{source}: `{place}.content` is {_kind(content)}; expected a string")
        messages.append({"role": role, "content": _encodable(content, place, source)})
    return messages


def _encodable(text: str, name: str, source: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{source}: `{name}` holds half a surrogate pair at character {error.start}; remove it"
        ) from error
    return text


def _margin(row: dict[str, Any], source: str) -> float:
    if "margin" in row or not ("score_chosen" in row or "score_rejected" in row):
        return _number(row, "margin", source, 0.0)
    chosen, rejected = (
        _number(row, name, source, None) for name in ("score_chosen", "score_rejected")
    )
    return chosen - rejected


def _number(row: dict[str, Any], name: str, source: str, default: float | None) -> float:
    value = row.get(name, default) if default is not None else field(row, name, source)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{source}: `{name}` is {value!r}; expected a finite number")
    return float(value)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a string" if isinstance(value, str) else json.dumps(value)
