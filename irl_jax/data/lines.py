"""A file of examples: its objects, or what is wrong with it.

Every reader of a file goes through `read_objects`: JSON Lines, plain or gzipped, or tables
(`irl_jax.data.parquet`). What `read_jsonl` yields can be encoded as UTF-8 again, and what is no
JSON Lines is named for what it is.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irl_jax.data.parquet import read_tables, table_files
from irl_jax.types import InputError

GZIP = b"\x1f\x8b"
FORMS = {
    b"PAR1": "Parquet; convert it, as with pandas.read_parquet(FILE).to_json(OUT, "
    'orient="records", lines=True)',
    b"ARROW1": "Arrow; convert it, as with datasets.Dataset.from_file(FILE).to_json(OUT)",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "bzip2; unpack it, or compress it with gzip",
    b"\xfd7zXZ": "xz; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "zstandard; unpack it, or compress it with gzip",
}
"""First bytes of a file -> what it is, and what to do."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # an escape that may be half a surrogate pair
_WHOLE = 2**24  # bytes that are looked at to tell JSON over several lines from a broken line


def read_objects(path: str | Path) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """Yields (place, object) of a file or a directory; `PATH:PLACE` is where the object is.

    Args:
        path: JSON Lines, where the place is the line's number, or Parquet or Arrow as
            `irl_jax.data.parquet` reads it, where it is `row N` or `SHARD:row N`.

    Raises:
        InputError: as `read_jsonl` and `read_tables`.
    """
    try:
        files = table_files(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return read_tables(path, files) if files else read_jsonl(path)


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of a JSON Lines file; skips blank lines.

    Args:
        path: plain, or gzipped whatever its name.

    Raises:
        InputError: no such file, an unreadable or empty file, one of another form, broken
            JSON, a line that is no object, text that UTF-8 cannot hold.
    """
    path = Path(path)
    found = False
    number = 0
    try:
        with path.open("rb") as raw:
            zipped = path.suffix == ".gz" or raw.peek(2)[:2] == GZIP
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                _check_form(path, file.peek(8))
                for number, line in enumerate(file, start=1):
                    if not line.strip():
                        continue
                    if not found:
                        _check_first(path, line, file)
                    found = True
                    yield number, _parse(f"{path}:{number}", line)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        if reason := getattr(error, "strerror", None):  # of the file itself
            raise InputError(f"{path}: cannot be read ({reason}); check the path") from error
        raise InputError(
            f"{path}:{number + 1}: cannot be read ({error}); check the file"
        ) from error
    if not found:
        raise InputError(f"{path}: empty file; expected one JSON object a line")


def kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    if isinstance(value, dict):
        return "a message" if {"role", "content"} <= set(value) else "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a string" if isinstance(value, str) else shown(value)


def shown(value: Any) -> str:
    """A JSON value in few characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"


def names(row: dict[str, Any]) -> str:
    """The names of an object's fields, on one line and in few characters."""
    text = ", ".join(json.dumps(name, ensure_ascii=False)[1:-1] for name in row) or "none"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _check_form(path: Path, start: bytes) -> None:
    for magic, what in FORMS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: expected JSON Lines, an object a line, but this is {what}")


def _check_first(path: Path, line: bytes, rest: Any) -> None:
    """Raises `InputError` if a first line begins a JSON value that goes on after it."""
    text = line.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[":
        raise InputError(
            f"{path}: expected JSON Lines, an object a line, but this is one JSON array; "
            "convert it, as with jq -c '.[]' FILE > OUT"
        )
    if text[:1] != b"{" or text.rstrip().endswith(b"}"):
        return
    try:
        whole = (text + rest.read(_WHOLE)).decode("utf-8", "ignore")
        _, end = json.JSONDecoder().raw_decode(whole)
    except (ValueError, RecursionError):
        return  # nor is it JSON over several lines: the line is broken
    if "\n" in whole[:end]:
        raise InputError(
            f"{path}: expected JSON Lines, an object a line, but this is JSON over several "
            "lines; convert it, as with jq -c . FILE > OUT"
        )


def _parse(source: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 ({error.reason}); convert the file") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{source}: broken JSON, {error.msg} at column {error.colno}; fix or remove the line"
        ) from error
    except RecursionError as error:
        raise InputError(f"{source}: JSON nested too deep to be read; fix the line") from error
    except ValueError as error:  # Python's limit on digits
        raise InputError(f"{source}: a number of too many digits; shorten it") from error
    if not isinstance(value, dict):
        raise InputError(f"{source}: expected a JSON object, got {kind(value)}; one {{...}} a line")
    if _HALF.search(line):
        _check_encodable(value, source)
    return value


def _check_encodable(row: dict[str, Any], source: str) -> None:
    """Raises `InputError` where a text holds half a surrogate pair, which UTF-8 cannot."""
    left: list[tuple[str, Any]] = [*row.items(), *((name, name) for name in row)]
    while left:
        place, value = left.pop()
        if isinstance(value, list):
            left += [(f"{place}[{i}]", item) for i, item in enumerate(value)]
        elif isinstance(value, dict):
            left += [(place, key) for key in value]
            left += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                name = place.encode("ascii", "backslashreplace").decode()
                raise InputError(
                    f"{source}: `{name}` holds half a surrogate pair at character {error.start}; "
                    "remove it"
                ) from error
