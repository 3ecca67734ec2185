r"""Where a prompt ends and its completions begin, in whatever form a line gives them.

A completion may be given alone, or with the prompt before it, whole or in part. What a
side repeats of the prompt is taken off where only one reading makes sense, and refused
where there are two, so that no prompt is read twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from irl_jax.data.chat import Message, Text
from irl_jax.types import InputError

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_HUMAN = ("Human", "Human")


def separate(
    prompt: Text | None, sides: Sequence[Text], names: Sequence[str], source: str
) -> tuple[Text, list[Text]]:
    r"""The prompt and its completions, all plain or all messages.

    Messages are compared without the whitespace around their content. Where sides are
    messages, or `\n\nHuman: ...\n\nAssistant: ...` dialogues, a side may

    * be the completion alone;
    * begin with the prompt, or with its last messages;
    * hold the prompt after other turns (a system message, earlier turns), which then
      belong to the prompt;
    * go on from a prompt that ends with no user message.

    Further messages that all sides share join the prompt. Plain sides that all begin with
    a plain prompt are refused: they may repeat it, or may be answers that quote it.

    Args:
        prompt: plain text for one user message, messages, or None: what the sides share.
        sides: at least one.
        names: what to call each side.
        source: `FILE:LINE`.

    Raises:
        InputError: sides of which the prompt cannot be told, that answer different
            prompts, or that do not begin and end with an assistant message.
    """
    dialogues = [isinstance(side, str) and _is_dialogue(side) for side in sides]
    plain = all(isinstance(side, str) for side in sides)
    if plain and prompt is None and not all(dialogues):
        raise InputError(
            f"{source}: no `prompt`, and `{names[dialogues.index(False)]}` is no "
            "\\n\\nHuman: ... \\n\\nAssistant: ... dialogue; add the field `prompt`"
        )
    if plain and prompt is not None and not all(dialogues):
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        if all(_repeats(asked, str(side)) for side in sides):
            raise InputError(
                f"{source}: {_listed(names)} with the text of the prompt; take it off, or, if "
                "the answer quotes it, give messages of the user and the assistant"
            )
        if isinstance(prompt, str):
            return prompt, list(sides)
    if isinstance(prompt, str):
        read = all(dialogues) and _TURN.match(prompt.lstrip()) is not None
        start = _asked(prompt) if read else [Message(role="user", content=prompt)]
    else:
        start = [] if prompt is None else prompt
    turns = [
        _dialogue(side) if told and isinstance(side, str) else as_messages(side)
        for side, told in zip(sides, dialogues, strict=True)
    ]
    whole, rests = _split(start, turns, names, source)
    return whole, [*rests]


def as_messages(text: Text) -> list[Message]:
    """Messages; of a plain text one of the assistant."""
    return [Message(role="assistant", content=text)] if isinstance(text, str) else text


def check_prompt(prompt: Sequence[Message], source: str) -> None:
    """Raises `InputError` if there is no message, or the last is the assistant's."""
    if not prompt or prompt[-1]["role"] == "assistant":
        got = "an assistant message" if prompt else "no message"
        raise InputError(f"{source}: the prompt ends with {got}; expected a user message last")


def _split(
    prompt: list[Message], sides: list[list[Message]], names: Sequence[str], source: str
) -> tuple[list[Message], list[list[Message]]]:
    """Takes the prompt off the sides; further messages that they share join it."""
    parted = [_part(prompt, side, name, source) for side, name in zip(sides, names, strict=True)]
    whole, rests = parted[0][0], [rest for _, rest in parted]
    for (context, _), name in zip(parted, names, strict=True):
        if not _same(context, whole):
            raise InputError(
                f"{source}: `{names[0]}` and `{name}` answer different prompts; give both the "
                "same system message and turns, or the whole conversation as `prompt`"
            )
    shared = _shared(whole, rests) if len(rests) > 1 else 0
    whole, rests = [*whole, *rests[0][:shared]], [rest[shared:] for rest in rests]
    check_prompt(whole, source)
    for rest, name in zip(rests, names, strict=True):
        if not rest or rest[0]["role"] != "assistant":
            raise InputError(
                f"{source}: expected the completions to begin with an assistant message after "
                f"a shared prompt, got {rest[0]['role'] if rest else 'no message'}; fix the line"
            )
        if rest[-1]["role"] != "assistant":
            raise InputError(
                f"{source}: `{name}` ends with a {rest[-1]['role']} message; expected the "
                "assistant's last"
            )
    return whole, rests


def _part(
    prompt: list[Message], side: list[Message], name: str, source: str
) -> tuple[list[Message], list[Message]]:
    """The whole prompt of a side, and what follows it."""
    n = len(prompt)
    if not prompt or not side:
        return prompt, side
    if _same(side[:n], prompt):
        return prompt, side[n:]
    places = [
        i
        for i in range(1, len(side) - n)
        if _same(side[i : i + n], prompt) and side[i + n]["role"] == "assistant"
    ]
    first = side[0]["role"]
    if first != "assistant" and places:
        end = places[0] + n
        return side[:end], side[end:]
    for i in range(min(n, len(side)) - 1, 0, -1):
        if first != "assistant" and _same(side[:i], prompt[-i:]):
            return prompt, side[i:]
    goes_on = first == "assistant" or (first in ("user", "tool") and prompt[-1]["role"] != "user")
    if places or not goes_on:
        raise InputError(
            f"{source}: `{name}` holds "
            + ("the prompt again, after other turns" if places else f"a {first} message first")
            + ", and the prompt is given beside it; give the whole conversation as `prompt` and "
            "only the answer here, or no `prompt`"
        )
    return prompt, side


def _shared(prompt: list[Message], sides: list[list[Message]]) -> int:
    """Messages that begin all sides, as many as leave each an answer to a question."""
    limit = min(map(len, sides)) - 1
    most = 0
    while most < limit and all(_same([side[most]], [sides[0][most]]) for side in sides):
        most += 1
    for shared in range(most, 0, -1):
        asked = sides[0][shared - 1]["role"] != "assistant"
        if asked and all(side[shared]["role"] == "assistant" for side in sides):
            return shared
    return 0


def _same(one: Sequence[Message], other: Sequence[Message]) -> bool:
    """Whether messages are alike, but for whitespace around their content."""
    bare = lambda message: {**message, "content": message["content"].strip()}
    return len(one) == len(other) and all(
        bare(a) == bare(b) for a, b in zip(one, other, strict=True)
    )


def _repeats(prompt: str, side: str) -> bool:
    """Whether a text is the prompt, whole words of it, and more."""
    start, text = prompt.strip(), side.lstrip()
    rest = text[len(start) :]
    if not start or not rest.strip() or not text.startswith(start):
        return False
    return not (_in_word(start[-1]) and _in_word(rest[0]))


def _in_word(character: str) -> bool:
    """Whether it is a digit, or a letter of a script that sets words apart."""
    return character.isdigit() or character.lower() != character.upper()


def _listed(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    verb = "begins" if len(different) == 1 else "begin"
    return " and ".join(f"`{name}`" for name in different) + f" {verb}"


def _is_dialogue(text: str) -> bool:
    r"""Whether it is `\n\nHuman: ...\n\nAssistant: ...`, of two turns or more."""
    parts = _TURN.split(text)
    return not parts[0].strip() and len(parts) >= 5


def _asked(text: str) -> list[Message]:
    """Messages of a dialogue that stops where the assistant is to speak."""
    messages = _dialogue(text)
    return messages if messages[-1]["content"] else messages[:-1]


def _dialogue(text: str) -> list[Message]:
    r"""Messages of a `\n\nHuman: ...\n\nAssistant: ...` text, stripped of whitespace.

    People are answered before they speak again: `Human:` within a turn of theirs is text
    of that turn, which they may have pasted.
    """
    marks = list(_TURN.finditer(text))
    turns = [mark for i, mark in enumerate(marks) if not i or (mark[1], marks[i - 1][1]) != _HUMAN]
    ends = [*(mark.start() for mark in turns[1:]), len(text)]
    return [
        Message(role=_SPEAKERS[mark[1]], content=text[mark.end() : end].strip())
        for mark, end in zip(turns, ends, strict=True)
    ]
