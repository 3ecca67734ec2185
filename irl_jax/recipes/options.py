"""A loss by its name on the command line, and its hyper-parameters as settings."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from types import GenericAlias
from typing import Any

from irl_jax.losses.table import Published, look_up, of_function
from irl_jax.types import InputError

SIMPLE = (bool, int, float, str)


def find_loss(name: str) -> Published:
    """The row of a published loss, or one made of a user's function.

    Args:
        name: of `losses.table.LOSSES`, or MODULE:FUNCTION as `load_function` takes it.

    Raises:
        InputError: there is no such loss.
    """
    if ":" not in name:
        return look_up(name)
    return of_function(load_function(name, "loss"))


def load_function(name: str, flag: str) -> Callable[..., Any]:
    """A user's function, MODULE:FUNCTION or FILE.py:FUNCTION.

    Modules are looked for in the working directory too.

    Args:
        name: of the function.
        flag: that names it, for the errors.

    Raises:
        InputError: no such module, file or function. An error inside of the module is its own.
    """
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise InputError(f"{flag}: {path}: no such file; check the path")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # what dataclasses of the module look for
        spec.loader.exec_module(module)
    else:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise InputError(
                f"{flag}: there is no module {place}; run in its directory, or give FILE.py:"
                f"{attribute}"
            ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        close = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f"did you mean {close[0]}?" if close else "check the name"
        raise InputError(f"{flag}: {place} has no function {attribute}; {hint}")
    return found


def make_options(row: Published, given: Mapping[str, Any] | None = None) -> Any:
    """The hyper-parameters of a loss as a frozen dataclass, for a field of a configuration.

    Args:
        row: of the loss.
        given: values in place of the defaults.

    Raises:
        InputError: a default is no number, text, or tuple of them; a value has no field.
    """
    name = getattr(row.loss, "__name__", "the loss")
    for key, value in row.defaults.items():
        for each in value if isinstance(value, tuple) else (value,):
            if not isinstance(each, SIMPLE):
                raise InputError(
                    f"loss: {name} gives {key} a default that no flag can hold; expected a number, "
                    "a text, true or false, or a tuple of them"
                )
    types = {
        key: GenericAlias(tuple, tuple(map(type, value)))
        if isinstance(value, tuple)
        else type(value)
        for key, value in row.defaults.items()
    }
    kind = make_dataclass(
        f"{name}_options",
        [(key, types[key], field(default=value)) for key, value in row.defaults.items()],
        frozen=True,
    )
    return kind(**dict(given or {}))


def as_options(options: Any) -> dict[str, Any]:
    """What `make_options` made, as keyword arguments of the loss."""
    return {each.name: getattr(options, each.name) for each in fields(options)}


def with_options(config: Any, row: Published, given: Mapping[str, Any] | None = None) -> Any:
    """A configuration with the hyper-parameters of its loss in the field `options`.

    Args:
        config: a frozen dataclass with the fields `loss` and `options`.
        row: of the loss.
        given: values in place of the defaults.

    Raises:
        InputError: a value of a hyper-parameter that the loss does not have.
    """
    unknown = sorted(set(given or {}) - set(row.defaults))
    if unknown:
        known = ", ".join(row.defaults) or "none"
        raise InputError(
            f"loss.{unknown[0]}: {config.loss} has no such hyper-parameter; it has {known}"
        )
    return replace(config, options=make_options(row, given))


def digest(name: str, flag: str) -> str:
    """SHA-256 of the text of a user's function, by which a run knows it again.

    Raises:
        InputError: as `load_function`; it is no function whose text can be read.
    """
    try:
        source = inspect.getsource(load_function(name, flag))
    except (OSError, TypeError) as error:
        raise InputError(
            f"{flag}: {name}: its text cannot be read ({error}); write a function in a file"
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()


def reader_options(row: Published) -> dict[str, Any]:
    """Options of the reader of a loss's data, see `data.kinds.Kind.read`."""
    return {"scale": row.scale} if row.kind == "ratings" else {}
