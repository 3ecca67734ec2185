"""A tiny language model, made on the spot, and the topics that it can be asked about.

Many of the topics are dull or annoying, so that descriptions by an untuned model are
neither all cheerful nor all gloomy: there is something to learn.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

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
from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.train.objectives import sft_objective
from irl_jax.train.offline import train_offline
from irl_jax.train.progress import Progress
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError

TINY_STEPS = 300
PLEASANT = "lovely great wonderful happy charming beautiful"
PLAIN = "long grey large old quiet wooden"
UNPLEASANT = "awful sad terrible ugly boring horrible"
TOPICS = """
a rainy Monday; a broken umbrella; the dentist; a traffic jam; an old bus station; a lost key;
the night shift; a cold cup of coffee; a long queue; an empty fridge; a small village;
a winter morning; a library; a noisy neighbour; a delayed train; a wedding; a phone call;
a school exam; a garden in autumn; a ferry crossing; the first snow; a flat tyre; a tax form;
a crowded beach; a mountain path; a street musician; an old dog; a power cut; a village market;
a job interview; a hospital corridor; a birthday cake; a football match; a storm at sea;
a quiet street; a new neighbour; a burnt dinner; a hotel lobby; a museum; a bicycle ride;
a leaking roof; a mouse in the kitchen; a letter from a friend; a morning run; a desert road;
a broken watch; a city at night; a fishing boat; a piano lesson; a moving day; a haircut;
a shopping list; a campfire; an airport; a spider; a computer crash; a Sunday afternoon;
a picnic; a steep staircase; a foggy bridge; a parking ticket; a rusty gate; an elevator;
a chess game; a wet tent; a sleepless night; a family dinner; a bakery; a border crossing;
a hot summer; an office party; a farm; a river in flood; an early flight; a toothache;
a church bell; a lighthouse; a waiting room; a broken promise; a swimming pool
"""


def topics(count: int, seed: int) -> list[str]:
    """A random choice of topics, in random order, no topic twice.

    Raises:
        InputError: if `count` is more than there are.
    """
    names = [" ".join(topic.split()) for topic in TOPICS.split(";")]
    if count > len(names):
        raise InputError(f"prompts: asked for {count}, but there are only {len(names)} topics")
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    return [names[i] for i in order[:count]]


def prompt_of(topic: str) -> str:
    """What is asked of the model."""
    return f"Describe {topic} in one short sentence."


def make_tiny(path: Path, *, seed: int, progress: Progress) -> None:
    """Trains a two-layer model and its tokenizer on a made-up corpus, and saves them.

    The corpus describes topics with pleasant, plain and unpleasant adjectives in equal
    parts: a policy whose valence can go both ways. Several processes each train the same
    model, and the first to finish saves it.
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
        process_index=0,
        process_count=1,
    )
    mesh = make_mesh(1, devices=jax.local_devices()[:1])
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, TINY_STEPS))
    init_key, key = jax.random.split(jax.random.key(seed))
    state = place(mesh, init_state(init_params(config, init_key), tx, key), RULES)
    step = jit_step(make_train_step(sft_objective(config), tx), mesh, state, RULES)
    state = train_offline(
        step, state, feed, steps=TINY_STEPS, progress=progress, stage="tiny model"
    )
    feed.close()
    partial = path.with_name(f".{path.name}.partial{jax.process_index() or ''}")
    shutil.rmtree(partial, ignore_errors=True)
    save_huggingface(partial, config, jax.device_get(state.params))
    tokenizer.save(partial)
    try:
        partial.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(partial)
