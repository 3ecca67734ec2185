"""What a library of tokenizers or templates refuses, told in one line."""

from __future__ import annotations

from types import TracebackType

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
