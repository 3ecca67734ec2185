"""Rows of Parquet and Arrow files, one or many, as a `datasets` or hub directory holds them.

A path is one of these, and needs pyarrow, the extra `parquet`:

* a file, `.parquet` or `.arrow` (as `Dataset.save_to_disk` writes it);
* a directory of the files of one split, in it or in its `data/`, as
  `data/train-00000-of-00002.parquet`;
* such a directory and a split, `DIR/data/train`, where there are several.

A column that is null in a row is left out of that row, as a line of JSON leaves out a field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irl_jax.files import file_sha256
from irl_jax.types import InputError

SUFFIXES = (".parquet", ".arrow")
MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}
"""First bytes of a file -> what it is, whatever its name."""

_SHARD = re.compile(r"(?:(.*?)-)??\d{4,5}(?:-of-(\d{5}))?")
_ROWS = 1024  # at a time


def table_files(path: str | Path) -> list[Path]:
    """The Parquet or Arrow files that a path stands for, in order; none if it is another file.

    Args:
        path: as this module says.

    Raises:
        InputError: a directory without such files or with several splits, or a file is missing
            of those that the names count.
    """
    path = Path(path)
    if path.is_file():
        return [path] if path.suffix in SUFFIXES or _magic(path) else []
    if not path.is_dir():
        splits = _splits([path.parent]) if path.parent.is_dir() else {}
        return _complete(path, splits.get(str(path), []))
    splits = _splits([path, path / "data"])
    if not splits:
        raise InputError(
            f"{path}: is a directory without Parquet or Arrow files, in it or in data/; give one "
            "that has, or a file"
        )
    if len(splits) > 1:
        raise InputError(
            f"{path}: holds several splits, {', '.join(Path(n).name for n in splits)}; give one, "
            f"as {next(iter(splits))}"
        )
    return _complete(path, next(iter(splits.values())))


def holds_tables(directory: Path) -> bool:
    """Whether a directory holds Parquet or Arrow files, in it or in its `data/`."""
    return bool(_splits([directory, directory / "data"]))


def read_tables(path: str | Path, files: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (`row N` from 1, row) of files in their order.

    Args:
        path: what was given; where that is no file itself, its place is `SHARD:row N`.
        files: of `table_files`.

    Raises:
        InputError: pyarrow is missing, a file cannot be read, or there are no rows.
    """
    empty = True
    for file in files:
        shard = "" if file == Path(path) else f"{file.name}:"
        for number, row in enumerate(_rows(file), start=1):
            empty = False
            yield f"{shard}row {number}", row
    if empty:
        raise InputError(f"{path}: holds no rows; expected an example a row")


def content_sha256(path: str | Path) -> str:
    """SHA-256 of a file of examples, or of the names and contents of the files of tables.

    Raises:
        OSError: it cannot be read.
        InputError: as `table_files`.
    """
    path = Path(path)
    if path.is_file() or not (files := table_files(path)):
        return file_sha256(path)
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file_sha256(file)}  {file.name}\n".encode())
    return whole.hexdigest()


def _magic(path: Path) -> str | None:
    """The suffix that a file's first bytes stand for."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((suffix for magic, suffix in MAGIC.items() if start.startswith(magic)), None)


def _splits(directories: list[Path]) -> dict[str, list[Path]]:
    """`DIR/SPLIT` -> the files of that split, in order."""
    found: dict[str, list[Path]] = {}
    for directory in directories:
        for file in sorted(directory.iterdir()) if directory.is_dir() else ():
            if file.suffix in SUFFIXES and not file.name.startswith((".", "cache-")):
                shard = _SHARD.fullmatch(file.stem)
                name = (shard.group(1) or "") if shard else file.stem
                found.setdefault(str(directory / name), []).append(file)
    return found


def _complete(path: Path, files: list[Path]) -> list[Path]:
    """The files, once it is known that they are as many as their names say."""
    for file in files:
        shard = _SHARD.fullmatch(file.stem)
        if shard and shard.group(2) and int(shard.group(2)) != len(files):
            raise InputError(
                f"{path}: has {len(files)} of {int(shard.group(2))} files, as {file.name} says; "
                "fetch the others"
            )
    return files


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{file}: reading Parquet or Arrow needs pyarrow; install irl_jax[parquet]"
        ) from error
    try:
        if (_magic(file) or file.suffix) == ".parquet":
            batches = pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=_ROWS)
        elif _magic(file):
            whole = pyarrow.ipc.open_file(file)
            batches = (whole.get_batch(i) for i in range(whole.num_record_batches))
        else:
            batches = iter(pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))))
        for batch in batches:
            yield from map(_plain, batch.to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"{file}: cannot be read ({reason}); check the file") from error


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: fields that are null left out, no other types."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
