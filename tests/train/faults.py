"""What happens to files: gone, cut, empty, changed by a bit."""

from __future__ import annotations

from pathlib import Path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def flip_low(path: Path) -> None:
    """What may leave JSON JSON: one bit, a third of the way in."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x01
    path.write_bytes(bytes(content))


FAULTS = {
    "gone": Path.unlink,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "one bit": flip_low,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}
