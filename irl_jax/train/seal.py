"""Whether a checkpoint is what was written: the SHA-256 of each of its files, beside them.

The format of arrays finds much damage by itself, but not a byte that flips in an array
that did not compress. Digests find every kind, before anything is restored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from irl_jax.files import file_sha256, write_atomic

SEAL = "sha256.json"
"""Of a checkpoint's directory: the name of each file in its items -> SHA-256, hexadecimal."""


def seal(checkpoint: Path) -> None:
    """Writes down what the files of a checkpoint are; they are read once.

    Args:
        checkpoint: its directory, with everything written but not committed.

    Raises:
        InputError: the seal cannot be written.
        OSError: a file cannot be read.
    """
    files = sorted(p for p in checkpoint.glob("*/**/*") if p.is_file() and "commit" not in p.name)
    digests = {p.relative_to(checkpoint).as_posix(): file_sha256(p) for p in files}
    write_atomic(checkpoint / SEAL, json.dumps(digests, indent=0).encode())


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if they are what was written.

    Args:
        checkpoint: its directory.
    """
    try:
        digests = json.loads((checkpoint / SEAL).read_bytes())
    except OSError as error:
        return f"{SEAL}: {_reason(error)}"
    except ValueError:
        digests = None
    if not isinstance(digests, dict) or not digests:
        return f"{SEAL} is damaged"
    for name, digest in digests.items():
        try:
            if file_sha256(checkpoint / name) != digest:
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name}: {_reason(error)}"
        except ValueError:  # a name that no file can have
            return f"{SEAL} is damaged"
    return None


def newest_sound(directory: Path, steps: Iterable[int]) -> tuple[int | None, dict[int, str]]:
    """The latest checkpoint that is whole, and what is wrong with each later one.

    Args:
        directory: of the checkpoints.
        steps: their numbers.

    Returns:
        The number, None if no checkpoint is sound; and number -> what is wrong.
    """
    found: dict[int, str] = {}
    for step in sorted(steps, reverse=True):
        reason = damage(directory / str(step))
        if reason is None:
            return step, found
        found[step] = reason
    return None, found


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
