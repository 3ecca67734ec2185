"""Fixtures of the recipes' tests: a file of each kind, a model of one layer."""

from __future__ import annotations

import json
import string
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.huggingface import save_huggingface
from tests.experiments.conftest import shared, write_jsonl

GOOD, BAD = ["good", "fine", "kind"], ["poor", "weak", "dull"]


def rows_of_every_kind() -> dict[str, list[dict]]:
    """Kind, or what it is a variant of -> lines: completions of good words are the better ones."""
    rng = np.random.default_rng(0)
    says = lambda words: " ".join(rng.choice(words, 2))
    prompts = [f"say {a} {b}" for a in string.ascii_lowercase[:4] for b in "uvwxyz"]
    rows: dict[str, list[dict]] = {}
    rows["pairs"] = [
        {"prompt": p, "chosen": says(GOOD), "rejected": says(BAD), "margin": 1} for p in prompts
    ]
    both = [(p, words) for p in prompts for words in (GOOD, BAD)]
    rows["ratings"] = [
        {"prompt": p, "completion": says(words), "label": words is GOOD} for p, words in both
    ]
    rows["stars"] = [
        {"prompt": p, "completion": says(words), "score": 2 if words is GOOD else i % 2}
        for i, (p, words) in enumerate(both)
    ]
    lists = [[" ".join(GOOD), f"{says(GOOD)} {says(BAD)}", " ".join(BAD)] for _ in prompts]
    rows["rankings"] = [{"prompt": p, "responses": r} for p, r in zip(prompts, lists, strict=True)]
    rows["scored"] = [{**row, "scores": [2.0, 1.0, -1.0]} for row in rows["rankings"]]
    rows["steps"] = [
        {"prompt": p, "completions": [says(GOOD), says(BAD)], "labels": [True, False]}
        for p in prompts
    ]
    rows["demonstrations"] = [{"prompt": p, "completion": says(GOOD)} for p in prompts]
    rows["prompts"] = [{"prompt": p, "answer": p[-1]} for p in prompts]
    return rows


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """Kind, or what it is a variant of -> file; not to be written to."""

    def make(folder: Path) -> None:
        for name, rows in rows_of_every_kind().items():
            write_jsonl(folder / f"{name}.jsonl", rows)

    folder = shared(tmp_path_factory, "kinds", make)
    return {path.stem: path for path in folder.glob("*.jsonl")}


@pytest.fixture(scope="session")
def small_model_dir(tmp_path_factory) -> Path:
    """A random model of one layer, whose tokens are words; not to be written to."""
    return make_model(tmp_path_factory, "small")


@pytest.fixture(scope="session")
def teacher_dir(tmp_path_factory) -> Path:
    """The same model but for one kernel, which a LoRA can come to; not to be written to."""
    return make_model(tmp_path_factory, "teacher", moved=20.0)


def make_model(factory: pytest.TempPathFactory, name: str, *, moved: float = 0.0) -> Path:
    """A random model whose tokens are words, and its tokenizer; with something of rank 1 added."""

    def make(folder: Path) -> None:
        texts = [json.dumps(row) for rows in rows_of_every_kind().values() for row in rows]
        tokenizer = Tokenizer.train_sentencepiece(texts, 340, folder)
        config = DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            d_model=32,
            n_layers=1,
            n_heads=2,
            n_kv_heads=1,
            head_dim=16,
            d_ff=32,
            max_positions=96,
        )
        params = init_params(config, jax.random.key(0))
        params["embed"]["embedding"] *= 10.0  # so that a LoRA can make a token likely
        wave = jnp.cos(jnp.arange(32.0))
        params["layers"]["mlp"]["down"]["kernel"] += moved * wave[:, None] * wave
        save_huggingface(folder / "model", config, params)
        tokenizer.save(folder / "model")

    return shared(factory, name, make) / "model"
