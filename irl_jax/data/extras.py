"""What a line says beside roles and contents: tools, calls of them, names, a system column.

What changes the meaning of a conversation is shown to the model by its chat template, or
refused by name. Other columns of a line (ids, sources, scores of others) are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from irl_jax.data.chat import Message, Text, as_messages, render_chat
from irl_jax.types import InputError

OF_MESSAGES = (
    "tool_calls", "function_call", "tool_call_id", "name", "reasoning_content", "reasoning",
    "thinking",
)  # fmt: skip
"""Fields of a message that a template may show."""
UNREAD = (
    "images", "image", "videos", "video", "audio", "audios", "documents", "functions",
    "chat_template_kwargs",
)  # fmt: skip
"""Fields of a line or of a message that no template is given."""
REPEATED = ("tool_call_id", "name")
"""Fields of a tool's message that say what the call before it said."""


def extras_of(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The fields of a message that a template may show, those that hold nothing left out.

    Raises:
        InputError: a field that would be lost.
    """
    check_unread(message, place)
    if message.get("weight") not in (None, 1):
        raise InputError(f"{place}: a message's `weight` is not read; remove it")
    return {name: message[name] for name in OF_MESSAGES if message.get(name)}


def check_unread(row: Mapping[str, Any], place: str) -> None:
    """Raises `InputError` for a field that changes the meaning, and is not read."""
    for name in UNREAD:
        if row.get(name):
            raise InputError(
                f"{place}: `{name}` is not read; say in the messages what it says, or remove it"
            )


def tools_of(row: Mapping[str, Any], source: str) -> list[Any] | None:
    """The tools that a line offers, a list or the JSON of one; None if none.

    Raises:
        InputError: another type.
    """
    value = row.get("tools")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: `tools` is no JSON; give a list of objects") from error
    if not value or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, list):
        raise InputError(f"{source}: `tools` is a {type(value).__name__}; expected a list")
    return value


def with_system(
    row: Mapping[str, Any], prompt: Text, completions: Sequence[Text], source: str
) -> tuple[Text, list[Text]]:
    """A prompt and completions, with a line's `system` or `system_prompt` as first message.

    Raises:
        InputError: it is no string, or the prompt has another system message.
    """
    for name in ("system", "system_prompt"):
        system = row.get(name)
        if system is None or (isinstance(system, str) and not system.strip()):
            continue
        if not isinstance(system, str):
            raise InputError(f"{source}: `{name}` is a {type(system).__name__}; expected a string")
        messages = as_messages(prompt, "user")
        if messages[0]["role"] not in ("system", "developer"):
            messages = [Message(role="system", content=system), *messages]
        elif messages[0]["content"].strip() != system.strip():
            raise InputError(
                f"{source}: `{name}` differs from the system message of the prompt; remove one"
            )
        prompt, completions = messages, [as_messages(text, "assistant") for text in completions]
    return prompt, [*completions]


def check_shown(
    template: str | None,
    messages: Sequence[Message],
    tools: list[Any] | None,
    tokens: Mapping[str, str],
) -> None:
    """Raises `InputError` for tools, or a field of messages, that a template does not show.

    What a tool's message repeats of its call may be left out where calls are shown.
    """

    def shows(changed: Sequence[Message], given: list[Any] | None) -> bool:
        try:
            options = {"add_generation_prompt": False, "tokens": tokens}
            return render_chat(template, [*changed], tools=given, **options) != whole  # type: ignore[arg-type]
        except InputError:  # the template cannot do without it
            return True

    present = [name for name in OF_MESSAGES if any(name in m for m in messages)]
    if not present and not tools:
        return
    if template is None:
        raise InputError(f"`{'tools' if tools else present[0]}` needs a chat template; give one")
    whole = render_chat(
        template, [*messages], tools=tools, add_generation_prompt=False, tokens=tokens
    )
    lost = [] if not tools or shows(messages, None) else ["tools"]
    for name in present:
        own = [m for m in messages if name in m and not (name in REPEATED and m["role"] == "tool")]
        own = own or ([] if "tool_calls" in present else [m for m in messages if name in m])
        without = [cast(Message, {k: v for k, v in m.items() if k != name}) for m in messages]
        if own and not shows(without, tools):
            lost.append(name)
    if lost:
        raise InputError(
            f"the chat template does not show `{lost[0]}`; remove the field, or give a model whose "
            "template shows it"
        )
