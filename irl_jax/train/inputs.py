"""What a run reads, known again by its content: a SHA-256 of each file or directory.

A run that goes on must read what it began with, and a path does not say what lies there.
All bytes are read: a model of 270 MB takes a second at most, one of 15 GB tens of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from irl_jax.data.parquet import content_sha256, holds_tables
from irl_jax.files import file_sha256, read_object
from irl_jax.models.huggingface import FILE, INDEX
from irl_jax.models.huggingface_config import WHOLE
from irl_jax.models.peft_files import TENSORS
from irl_jax.models.pretrained import base_path
from irl_jax.types import InputError

READ = (".jinja", ".json", ".jsonl", ".model", ".txt")
"""Suffixes of the files of a directory that are read, beside its weights."""


def identities(inputs: Mapping[str, str | Path | None]) -> dict[str, str]:
    """The digest of every input that there is.

    Args:
        inputs: flag -> the file or directory that it names; None: nothing is read.

    Returns:
        flag -> SHA-256, hexadecimal.

    Raises:
        InputError: naming the flag and the path that cannot be read.
    """
    return {flag: sha256_of(path, flag) for flag, path in inputs.items() if path is not None}


def sha256_of(path: str | Path, flag: str) -> str:
    """SHA-256 of a file's content, or of the names and contents of what a directory holds.

    Of a directory of Parquet or Arrow files that is those (`irl_jax.data.parquet`). Of a
    model's directory it is its configuration, its tokenizer and the weights that
    are loaded; what else lies there (a README, weights in another format) may change.
    To an adapter belongs its base.

    Args:
        path: a file, a directory, or a split in one.
        flag: that names it.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: there is nothing, or it cannot be read.
    """
    path = Path(path)
    try:
        if not path.is_dir() or holds_tables(path):
            return content_sha256(path)
        whole = hashlib.sha256()
        for name in sorted(_names(path)):
            whole.update(f"{file_sha256(path / name)}  {name}\n".encode())
        base = base_path(path)
        if base != path:
            whole.update(f"{sha256_of(base, flag)}  base\n".encode())
        return whole.hexdigest()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{flag}: {path}: {reason}; check the path") from error


def _names(directory: Path) -> Iterator[str]:
    """Names of the files of a directory that are read."""
    files = {p.name for p in directory.iterdir() if p.is_file() and not p.name.startswith(".")}
    yield from (name for name in files if name.endswith(READ))
    yield from files & {TENSORS}
    if FILE in files:
        yield FILE
    elif INDEX in files:
        named = read_object(directory / INDEX, WHOLE).get("weight_map")
        shards = {str(name) for name in named.values()} if isinstance(named, dict) else set()
        yield from (name for name in shards if (directory / name).is_file())
