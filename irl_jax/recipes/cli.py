"""The command line of every command and experiment: `run(main, CONFIG, description=__doc__)`.

A configuration is a frozen dataclass of frozen dataclasses. Any field is a flag
(`--optim.lr 1e-5`), the comment on a field's line is its help, its value in
`CONFIG` is its default. What the user can fix is told on stderr with exit status 2: by
tyro where there is no such flag or its value is of another type, otherwise in one line.
What is a fault of the program keeps its traceback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar, get_type_hints

import tyro

from irl_jax.models.hub import fetched
from irl_jax.recipes import distributed
from irl_jax.types import InputError

Config = TypeVar("Config")

# No permission, no space, a file where a directory should be, or the reverse.
MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip

# Of flags that mean the same in every experiment, the least and the greatest value.
LIMITS = {"seed": (0, 2**32 - 1), "save_every": (1, 2**31 - 1)}


def run(
    main: Callable[[Config], Any],
    config: Config,
    *,
    description: str | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Runs main on config, overridden by the command line.

    Args:
        main: the experiment.
        config: the defaults, an instance of a frozen dataclass.
        description: shown by `--help`; usually the module's docstring.
        args: the command line; `sys.argv[1:]` if None.

    Raises:
        SystemExit: as `exiting`.
    """
    with exiting():
        given = distributed.begin(sys.argv[1:] if args is None else args)
        main(parse(config, given, description=description))


@contextlib.contextmanager
def exiting() -> Iterator[None]:
    """Tells what a user can fix in one line, and exits with the status that shells expect.

    Several processes end together, see `irl_jax.recipes.distributed`.

    Raises:
        SystemExit: 2 on a mistake of the user, 130 on Ctrl-C, 143 on SIGTERM, 141
            where the reader of stdout has gone.
    """
    with distributed.ending_together(), _exiting():
        yield


@contextlib.contextmanager
def _exiting() -> Iterator[None]:
    try:
        with _exit_on_sigterm():
            yield
            sys.stdout.flush()
    except InputError as error:
        _fail(f"error: {error}", 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit fails too
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _fail(f"error: {place}{(error.strerror or str(error)).lower()}", 2)


def parse(
    config: Config,
    args: Sequence[str],
    *,
    description: str | None = None,
    prog: str | None = None,
    brief: type | None = None,
) -> Config:
    """Config with the fields replaced that args name; of a flag given twice, the last.

    A value hf://OWNER/NAME is fetched from the hub, see `irl_jax.models.hub`.

    Args:
        config: the defaults, an instance of a frozen dataclass.
        args: the command line.
        description: shown by `--help`.
        prog: how the command is called; told by the main module if None.
        brief: a class of some of the configuration's fields, whose flags alone `--help` lists;
            then `--help-all` lists the rest.

    Raises:
        InputError: a value that the configuration refuses, or that the hub does not have.
        SystemExit: 0 after `--help`; 2 for an unknown flag or a value of another type, after
            tyro has told which.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if prog is None and spec:
        prog = f"python -m {spec.name.removesuffix('.__main__')}"
    about = None if description is None else f"{_paragraphs(description)}\n\n{distributed.HELP}"
    parser = lambda given, config=config, about=about: tyro.cli(
        type(config), default=config, args=given, description=about, prog=prog
    )
    if brief is not None and "--help-all" in args:
        args = ["--help"]
    elif brief is not None and {"-h", "--help"} & set(args):
        told = f"{(about or '').partition(chr(10) * 2)[0]} --help-all tells more, and every flag."
        parser(["--help"], _narrowed(config, brief), told)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            parsed = parser(args)
    except SystemExit as stop:
        if not stop.code:
            raise
        if error := _input_error(stop):
            raise error from None
        parser(args)  # prints what is wrong, and exits with status 2
        raise
    _check_numbers(parsed)
    found: Config = fetched(parsed)
    return found


def _input_error(error: BaseException | None) -> InputError | None:
    """The `InputError` that was being handled when an error was raised, if any."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _narrowed(config: Any, base: Any) -> Any:
    """The configuration with the fields of another class alone, its groups likewise."""
    hints = get_type_hints(base)
    values = {}
    for item in dataclasses.fields(base):
        value, hint = getattr(config, item.name), hints[item.name]
        group = dataclasses.is_dataclass(hint) and dataclasses.is_dataclass(value)
        values[item.name] = _narrowed(value, hint) if group else value
    return base(**values)


def _check_numbers(config: Any, prefix: str = "") -> None:
    """Raises `InputError` for a number that its flag cannot mean, see `LIMITS`.

    NaN is none; infinity is one only where the field's metadata say `{"infinite": True}`.
    """
    for item in dataclasses.fields(config):
        value, name = getattr(config, item.name), item.metadata.get("flag", item.name)
        flag = f"--{prefix}{name}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            _check_numbers(value, f"{prefix}{name}.")
        for x in value if isinstance(value, tuple) else (value,):
            good = not isinstance(x, float) or math.isfinite(x)
            if not good and not (item.metadata.get("infinite") and math.isinf(x)):
                raise InputError(f"{flag}: {x}; expected a finite number")
        low, high = LIMITS.get(item.name, (value, value))
        if isinstance(value, int) and not low <= value <= high:
            raise InputError(f"{flag}: {value}; expected {low} to {high}")


def _paragraphs(docstring: str) -> str:
    """The docstring with each `Header: text` as a paragraph, since tyro fills paragraphs."""
    joined = re.sub(r"\n {4,}", " ", inspect.cleandoc(docstring))
    return re.sub(r"(?<!\n)\n(?=[A-Z]\w+: )", "\n\n", joined)


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that what is open is closed, and exits with 143."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        _fail("terminated", 128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, status: int) -> NoReturn:
    print(distributed.name() + " ".join(message.split("\n")), file=sys.stderr, flush=True)
    raise SystemExit(status)
