"""Files of a tokenizer's directory: JSON objects, and files that are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from irl_jax.types import InputError


def read_object(file: Path, *, required: bool) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file and none is required.

    Raises:
        InputError: no such file, no JSON, or no object.
    """
    if not file.exists():
        if required:
            raise InputError(f"{file}: no such file; expected a tokenizer's directory")
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
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
