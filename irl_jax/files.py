"""Files: read or refused in one line, written whole or not at all, known by their content."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.types import InputError


def as_json(value: Any) -> Any:
    """The JSON form of a configuration or a row.

    Dataclasses become objects, tuples lists, paths strings, scalars of NumPy and JAX
    numbers, and numbers that are not finite null.

    Raises:
        InputError: if a value has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise InputError(f"config: a {type(value).__name__} has no JSON form; use plain values")


def read_text(path: Path, fix: str = "check the path") -> str:
    """Reads a text file.

    Args:
        path: the file.
        fix: what the user can do if that fails; ends the message.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: {reason}; {fix}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); {fix}") from error


def read_object(path: Path, fix: str) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Args:
        path: the file.
        fix: what the user can do if that fails; ends the message.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    text = read_text(path, fix)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}); {fix}") from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise InputError(f"{path}: expected a JSON object, found a {found}; {fix}")
    return value


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns what the operating system refuses (no space, no permission) into one line.

    Raises:
        InputError: naming the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)}: cannot write: {error.strerror or error};"
            " make room or choose another directory"
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing: a temporary file beside it, synced, then renamed.

    Raises:
        InputError: if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to an .npz file, whole or not at all.

    Raises:
        InputError: if the file cannot be written.
    """
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    write_atomic(path, file.getvalue())


REMOVE_IT = "remove it, and the same command makes it again"
# What numpy raises, depending on where a file is damaged or which other kind it is.
_DAMAGED: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, EOFError)
_DAMAGED += (AttributeError, TypeError, NotImplementedError)
_DAMAGED += (struct.error, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, *, fix: str = REMOVE_IT) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; each of them has a checksum in it.

    Args:
        path: the file; by default one that a run keeps.
        fix: what to do if it is damaged.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: damaged ({reason}); {fix}") from error
