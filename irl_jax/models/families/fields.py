"""The fields of a config.json, and what is wrong with them in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_jax.types import InputError


@dataclass(frozen=True)
class Fields:
    """The fields of a config.json, absent ones at their default.

    Attributes:
        path: the file, named in messages.
        values: field -> value.
    """

    path: Path
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """The value of a field; null if it is absent and has no default."""
        return self.values.get(name)

    def positive(self, name: str, kind: type[float], default: float | None = None) -> float:
        """A field that holds a positive number.

        Args:
            name: the field.
            kind: int, or float, which an int will do for.
            default: stands in for null or a missing field.

        Raises:
            InputError: naming the file and the field.
        """
        value = self[name]
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or value <= 0:
            raise self.error(
                f"{name}: expected a positive {kind.__name__}, found {json.dumps(value)}"
            )
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """`positive` for a whole number."""
        return int(self.positive(name, int, default))

    def flag(self, name: str) -> bool:
        """A field that is true or false; null is false.

        Raises:
            InputError: naming the file and the field.
        """
        value = self[name]
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{name}: expected true or false, found {json.dumps(value)}")
        return bool(value)

    def error(self, message: str) -> InputError:
        """An `InputError` that names the file."""
        return InputError(f"{self.path}: {message}")

    def check(self, only: Mapping[str, tuple[Any, ...]], family: Mapping[str, Any]) -> None:
        """Raises `InputError` if a field of the family has a value that is not computed.

        Args:
            only: field -> the values that are.
            family: the optional fields of the family.
        """
        for name, allowed in only.items():
            if name in family and self[name] not in allowed:
                raise self.error(
                    f"{name} = {json.dumps(self[name])} is not supported; "
                    f"only {json.dumps(allowed[0])}"
                )
