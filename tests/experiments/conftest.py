"""Fixtures of the experiments' tests: one tiny model, files of preferences."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from experiments.preference_to_policy.config import Config
from experiments.preference_to_policy.study import main
from irl_jax.losses.table import look_up
from irl_jax.models.bert import NAMES, BertConfig, param_shapes
from irl_jax.models.layout import slots
from irl_jax.recipes.align_config import PolicyLearning
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.options import with_options
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.reward_config import RewardLearning
from irl_jax.recipes.run_config import EvaluationConfig, Learning
from irl_jax.recipes.tiny import PLAIN, PLEASANT, UNPLEASANT, make_tiny, prompt_of, topics
from irl_jax.train.progress import Progress
from tests.train.compilations import count_compilations

ADAM = partial(optax.adam, eps=1e-5)


@contextmanager
def steady() -> Iterator[None]:
    """Adam with an epsilon above the noise of rounding, which it would make whole steps of.

    So that runs on one device and on several draw the same completions.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optax, "adam", ADAM)
        yield


@pytest.fixture(scope="package", autouse=True)
def steady_adam():
    """Every test of this package runs with `steady`."""
    with steady():
        yield


def shared(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A directory that `make` fills once in a run of the tests, whichever process needs it first.

    It is made with `steady`: a fixture of the session may come before `steady_adam`. What it
    holds is not to be written to.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # of the run, not of the process
    path, whole = place / name, place / f"{name}.whole"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            with steady():
                make(path)
            whole.touch()
    return path


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory) -> Path:
    """The tiny model and its tokenizer; not to be written to."""

    def make(folder: Path) -> None:
        with Progress(io.StringIO()) as progress:
            make_tiny(folder / "tiny", seed=0, progress=progress)

    return shared(tmp_path_factory, "model", make) / "tiny"


def preference_rows(prompts: int, pairs: int) -> list[dict[str, str]]:
    """Pairs of which the chosen side is the pleasant one, `pairs` to a prompt."""
    rng = np.random.default_rng(0)
    draw = lambda words: "It is {} and {}.".format(*rng.choice(words.split(), 2, replace=False))
    return [
        {
            "prompt": prompt_of(topic),
            "chosen": draw(PLEASANT),
            "rejected": draw(f"{PLAIN} {UNPLEASANT}"),
        }
        for topic in topics(prompts, 0)
        for _ in range(pairs)
    ]


def as_messages(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """The same pair as lists of messages."""
    role = lambda name: "user" if name == "prompt" else "assistant"
    return {name: [{"role": role(name), "content": text}] for name, text in row.items()}


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ROWS = preference_rows(prompts=24, pairs=2)
SHAPE = BertConfig(
    vocab_size=64, d_model=64, n_layers=1, n_heads=2, d_ff=16, max_positions=48, norm_eps=1e-6
)  # as wide as the tiny language model, so that both share compiled programs


def complaint(stderr: str) -> str:
    """What a mistake is told by: one line after `error: `, or tyro's box, here on one line."""
    if not stderr.startswith("error: "):
        return " ".join(re.sub("[╭╮╰╯│─]|-{4,}", " ", stderr).split())
    (line,) = stderr.splitlines()
    return line.removeprefix("error: ")


def write_encoder(path: Path) -> None:
    """Writes a random sentence encoder that knows the words of the answers to a directory."""
    words = sorted({w for row in ROWS for w in row["chosen"].split() + row["rejected"].split()})
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(path / "tokenizer.json"))
    shape = replace(SHAPE, vocab_size=len(vocabulary))
    rng = np.random.default_rng(0)
    tensors = {
        s.name: (0.3 * rng.normal(size=s.shape)).astype(np.float32)
        for s in slots(param_shapes(shape), NAMES)
    }
    save_file(tensors, path / "model.safetensors")
    fields = {
        "model_type": "bert",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": shape.d_ff,
        "max_position_embeddings": shape.max_positions,
        "type_vocab_size": shape.n_types,
        "layer_norm_eps": shape.norm_eps,
    }
    (path / "config.json").write_text(json.dumps(fields))


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory) -> Path:
    """A sentence encoder; not to be written to."""
    path = tmp_path_factory.mktemp("encoder")
    write_encoder(path)
    return path


def learning(kind: type[Learning], loss: str, options: dict | None = None, **own) -> Learning:
    """How a loss is learned."""
    return with_options(kind(loss=loss, **own), look_up(loss), options)


REWARD = learning(RewardLearning, "bradley_terry", lr=2e-2, epochs=2, batch_size=8)
POLICIES = {
    "dpo": learning(PolicyLearning, "dpo", lr=2e-3, batch_size=8),
    "grpo": learning(PolicyLearning, "grpo", steps=3, batch_size=8, completions=2, lr=2e-3),
}


def configure(path: Path, model: Path, run_dir: Path, **changes) -> Config:
    """A run of a few updates on one device, in which every step has one shape."""
    config = Config(
        data=DataConfig(path=path, held_out=0.25, buckets=1),
        model=str(model),
        run_dir=run_dir,
        save_every=1,
        lora=LoraConfig(rank=4, alpha=8.0),
        reward=REWARD,
        policy=POLICIES["dpo"],
        evaluation=EvaluationConfig(prompts=8, completions=2, batch_size=8),
        mesh=MeshConfig(data=1),
    )
    return replace(config, **changes)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> Path:
    """Pairs as strings, but for every other prompt as lists of messages."""
    rows = [as_messages(row) if i // 2 % 2 else row for i, row in enumerate(ROWS)]
    make = lambda folder: write_jsonl(folder / "mixed.jsonl", rows)
    return shared(tmp_path_factory, "data", make) / "mixed.jsonl"


@pytest.fixture(scope="session")
def dpo_counted(mixed, tiny_model_dir, tmp_path_factory) -> tuple[Config, Counter]:
    """A finished run with DPO, and how often each function was compiled in it."""
    config = lambda folder: configure(mixed, tiny_model_dir, folder / "run")

    def make(folder: Path) -> None:
        jax.clear_caches()  # what earlier tests compiled is to be counted, too
        with count_compilations() as counts:
            main(config(folder))
        (folder / "counts.json").write_text(json.dumps(counts))

    folder = shared(tmp_path_factory, "dpo", make)
    return config(folder), Counter(json.loads((folder / "counts.json").read_text()))


@pytest.fixture(scope="session")
def dpo(dpo_counted) -> Config:
    """The finished run with DPO; not to be written to."""
    return dpo_counted[0]
