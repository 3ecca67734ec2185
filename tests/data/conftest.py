"""Fixtures of the data tests: small tokenizers, and the one of SmolLM2."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.pretrained import smollm2_path
from irl_jax.types import InputError

CORPUS = [
    "Human and machine talk about the weather.\nIt rains, it pours.",
    "What is 12 plus 30? It is 42.",
    "def f(x):\n    return x + 1\n",
    "The quick brown fox jumps over the lazy dog, again and again.",
] * 3


@pytest.fixture(scope="session")
def spm_directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("spm")
    Tokenizer.train_sentencepiece(CORPUS, 320, directory)
    return directory


@pytest.fixture(scope="session")
def spm(spm_directory) -> Tokenizer:
    return Tokenizer.from_directory(spm_directory)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip('the package gguf is not installed: pip install "irl_jax[demo]"')
    try:
        return smollm2_path()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf) -> Tokenizer:
    return Tokenizer.from_gguf(smollm2_gguf)


@pytest.fixture(scope="session")
def transformers():
    if importlib.util.find_spec("transformers") is None:
        pytest.skip('transformers is not installed: pip install "irl_jax[parity]"')
    import transformers

    return transformers


@pytest.fixture(scope="session")
def smollm2_reference(transformers, smollm2_gguf):
    """transformers' own reading of the GGUF tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name
    )
