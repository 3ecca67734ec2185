"""Settings from a file: a run's own config.json, JSON, TOML or YAML, as flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from irl_jax.files import read_object
from irl_jax.train.run import SHA256
from irl_jax.types import InputError


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a file, by the names that config.json gives them.

    Args:
        path: .json, .toml or .yaml.

    Raises:
        InputError: it cannot be read, is damaged, or holds no mapping.
    """
    fix = "fix it, or give a run's config.json"
    if path.suffix == ".toml":
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"config: {path}: {error}; {fix}") from error
    if path.suffix in (".yaml", ".yml"):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"config: {path}: {' '.join(str(error).split())}; {fix}") from error
        if not isinstance(found, dict):
            raise InputError(f"config: {path}: holds no mapping; {fix}")
        return found
    return read_object(path, fix)


def as_flags(settings: Mapping[str, Any], config: Any, prefix: str = "") -> list[str]:
    """Settings as the flags that mean the same, for `cli.parse`.

    Args:
        settings: name -> value, nested as the configuration is; digests of inputs are left out.
        config: the configuration that they override.
        prefix: of the flags.

    Raises:
        InputError: a group of settings where a value is expected, or the reverse.

    Example:
        >>> from irl_jax.recipes.align_config import AlignConfig
        >>> as_flags({"lr": 0.1, "data": {"path": "a b"}}, AlignConfig())
        ['--lr=0.1', '--data.path=a b']
    """
    flags = []
    for name, value in settings.items():
        if not prefix and name == SHA256:
            continue
        flag = f"--{prefix}{'loss' if name == 'options' else name}".replace("_", "-")
        own = getattr(config, name, None)
        if isinstance(value, Mapping) != is_dataclass(own):
            raise InputError(f"config: {flag.removeprefix('--')}: {value!r}: see --help-all")
        if isinstance(value, Mapping):
            flags += as_flags(value, own, f"{flag.removeprefix('--')}.")
        elif isinstance(own, bool) and isinstance(value, bool):
            flags.append(flag if value else f"--{prefix}no-{name}".replace("_", "-"))
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags.append(f"{flag}={value}")
    return flags
