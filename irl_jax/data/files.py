"""Files of a tokenizer's directory: what cannot be read is told in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from irl_jax.types import InputError


class Refusals:
    """Tells in one line what the library `tokenizers` refuses.

    The library raises `Exception` itself, no class of its own, and where its Rust code
    panics one that cannot be imported. Only these two are taken; everything else passes.
    """

    def __init__(self, place: str, fix: str) -> None:
        """`place` names the file, `fix` what can be done."""
        self._place, self._fix = place, fix

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises InputError in place of what the library raised."""
        if kind is Exception or (kind is not None and kind.__name__ == "PanicException"):
            raise InputError(f"{self._place}: {one_line(error)}; {self._fix}") from error


def one_line(error: BaseException | None) -> str:
    """What an exception says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def read_text(file: Path) -> str:
    """A text file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{file}: {reason}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error.reason}); fetch the file again") from error


def read_object(file: Path, *, required: bool) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file and none is required.

    Raises:
        InputError: no such file, no JSON, or no object.
    """
    if not file.exists():
        if required:
            raise InputError(f"{file}: no such file; expected a tokenizer's directory")
        return {}
    text = read_text(file)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: broken JSON ({error}); fetch the file again") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: expected a JSON object; fetch the file again")
    return value


def write_whole(file: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(file)
