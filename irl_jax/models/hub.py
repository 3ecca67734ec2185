"""Models and data by their names on the Hugging Face hub, `hf://OWNER/NAME[@REVISION]`.

huggingface_hub does the work (the extra `hub`): what was fetched lies in its cache, a download that
was broken off goes on, and without network the cache alone is read. HF_TOKEN, HF_HOME,
HF_ENDPOINT and HF_HUB_OFFLINE are its own.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from irl_jax.types import InputError

SCHEME = "hf://"
_NAME = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?"
)
READ = (
    "*.json",
    "*.jsonl",
    "*.jsonl.gz",
    "*.jinja",
    "*.model",
    "*.parquet",
    "*.safetensors",
    "*.txt",
)
"""What is fetched of a model or a set of data; weights in other formats are not."""


def fetch(name: str) -> Path:
    """Where a model, a set of data or one of its files lies, fetched if it is not there yet.

    Args:
        name: hf://OWNER/NAME, a model; hf://datasets/OWNER/NAME; both with @REVISION, a branch, tag
            or commit, and with /FILE for one file, of which a GGUF is one.

    Returns:
        The directory of the snapshot, or the file.

    Raises:
        InputError: the name has another form, there is no such thing, it asks for a login, there
            is neither network nor a copy, or huggingface_hub is not installed.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(
            f"{name}: expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or "
            "hf://datasets/OWNER/NAME, with /FILE for one file"
        )
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise InputError(f'{name}: needs huggingface_hub: pip install "irl_jax[hub]"') from error
    where: dict[str, Any] = {
        "repo_id": found["repo"],
        "repo_type": "dataset" if found["datasets"] else "model",
        "revision": found["revision"],
    }
    try:
        if found["file"]:
            return Path(hub.hf_hub_download(filename=found["file"], **where))
        return Path(hub.snapshot_download(allow_patterns=list(READ), **where))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise InputError(f"{name}: {_reason(hub.errors, error)}") from error


def _reason(errors: Any, error: Exception) -> str:
    """Why nothing was fetched, and what to do."""
    reasons = {
        errors.GatedRepoError: "its owner asks for consent; give it on the hub, and set HF_TOKEN",
        errors.RepositoryNotFoundError: "no such repository; check the name, or set HF_TOKEN for a "
        "private one",
        errors.RevisionNotFoundError: "no such revision; check what follows @",
        errors.LocalEntryNotFoundError: "is not in the cache, and the hub cannot be reached; fetch "
        "it where there is network, or give a directory",
        errors.EntryNotFoundError: "no such file in the repository; check what follows its name",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    return f"cannot be fetched ({' '.join(str(error).split())}); try again, or give a directory"


def fetched(config: Any) -> Any:
    """A configuration with each name of the hub replaced by the place of what was fetched.

    Args:
        config: a dataclass of dataclasses; its strings and paths are looked at.

    Raises:
        InputError: as `fetch`.
    """
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        new = value
        if dataclasses.is_dataclass(value):
            new = fetched(value)
        elif isinstance(value, str) and value.startswith(SCHEME):
            new = str(fetch(value))
        elif isinstance(value, Path) and value.parts[:1] == ("hf:",):  # // has become /
            new = fetch(SCHEME + "/".join(value.parts[1:]))
        if new is not value:
            changes[item.name] = new
    return dataclasses.replace(config, **changes) if changes else config
