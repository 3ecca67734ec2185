"""Fields of a line: there, of the right type, within the range that can be computed with."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from irl_jax.data.chat import ROLES, Message, Text
from irl_jax.data.extras import extras_of
from irl_jax.data.lines import kind, names, shown
from irl_jax.types import InputError

GREATEST, LEAST = (float(getattr(np.finfo(np.float32), name)) for name in ("max", "tiny"))


def field(row: dict[str, Any], name: str, source: str) -> Any:
    """A field of an object, which there must be.

    Raises:
        InputError: there is none.
    """
    if name not in row:
        raise InputError(f"{source}: no field `{name}` (fields: {names(row)}); add or rename it")
    return row[name]


def text_of(value: Any, name: str, source: str) -> Text:
    """A string, or a list of messages: role, content, and what else a template may show.

    Raises:
        InputError: another type, an unknown role, a field that would be lost.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        what = kind(value)
        fix = "; put it into a list, [{...}]" if what == "a message" else ""
        raise InputError(
            f"{source}: `{name}` is {what}; expected a string or a list of messages{fix}"
        )
    messages: list[Message] = []
    for i, message in enumerate(value):
        place = f"{name}[{i}]"
        if not isinstance(message, dict):
            raise InputError(f"{source}: `{place}` is {kind(message)}; expected an object")
        extras = extras_of(message, f"{source}: `{place}`")
        called = bool({"tool_calls", "function_call"} & set(extras))
        if called and message.get("content") is None:
            message = {**message, "content": ""}
        role, content = (field(message, key, f"{source}: `{place}`") for key in ("role", "content"))
        if role not in ROLES:
            raise InputError(
                f"{source}: `{place}.role` is {role!r}; expected one of {', '.join(ROLES)}"
            )
        if not isinstance(content, str):
            raise InputError(f"{source}: `{place}.content` is {kind(content)}; expected a string")
        messages.append(cast(Message, {"role": role, "content": content, **extras}))
    return messages


def string(row: dict[str, Any], name: str, source: str) -> str:
    """A field that is a string.

    Raises:
        InputError: it is not there, or is of another type.
    """
    value = field(row, name, source)
    if not isinstance(value, str):
        raise InputError(f"{source}: `{name}` is {kind(value)}; expected a string")
    return value


def number(value: Any, name: str, source: str) -> float:
    """A number that is finite in f32, in which losses are computed.

    Raises:
        InputError: another type, NaN or infinite, or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InputError(f"{source}: `{name}` is {_said(value)}; expected a finite number")
    if not abs(value) <= GREATEST:
        what = "a finite number" if abs(value) == math.inf else f"at most {GREATEST:.1e}, as in f32"
        raise InputError(f"{source}: `{name}` is {_said(value)}; expected {what}")
    return float(value)


def weight(value: Any, name: str, source: str) -> float:
    """A number of 0 or more; not one that f32 would take for 0.

    Raises:
        InputError: as `number`; it is negative, or too small.
    """
    found = number(value, name, source)
    if found < 0 or 0 < found < LEAST:
        least = "0 or more" if found < 0 else f"0, or {LEAST:.1e} or more, as in f32"
        raise InputError(f"{source}: `{name}` is {found}; expected {least}")
    return found


class Weights:
    """Weights of the lines of a file, whose sum f32 has to hold."""

    def __init__(self) -> None:
        self._total = 0.0

    def of(self, row: dict[str, Any], source: str) -> float:
        """The `weight` of the next line; 1 if it has none.

        Raises:
            InputError: as `weight`; the weights up to this line add up to more than f32 holds.
        """
        own = weight(row.get("weight", 1.0), "weight", source)
        self._total = number(self._total + own, "weight, added up to this line,", source)
        return own


def _said(value: Any) -> str:
    return repr(value) if not isinstance(value, int) or isinstance(value, bool) else shown(value)
