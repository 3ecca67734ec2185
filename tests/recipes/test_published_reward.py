"""A published reward model as the reward of a policy whose tokens are others."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.data.jsonl import GroupRecord, PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import init_params
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.mesh import make_mesh
from irl_jax.models.reward_files import save_reward_model
from irl_jax.models.sharding import BATCH
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.published import published_reward, published_scorer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.text_rewards import PromptReader
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session
from irl_jax.train.progress import Progress
from irl_jax.types import InputError
from tests.experiments.conftest import shared
from tests.recipes.test_commands import SAMPLED, launch

TEMPLATE = "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '\n' }}{% endfor %}"
QUIET = Progress(io.StringIO())


@pytest.fixture(scope="module")
def reward_dir(files, tmp_path_factory) -> Path:
    """A random reward model with tokens and a template of its own; not to be written to."""

    def make(folder: Path) -> None:
        lines = [line[::-1] for path in files.values() for line in path.open()]
        tokenizer = Tokenizer.train_sentencepiece(lines, 320, folder)
        config = DecoderConfig(
            vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1,
            head_dim=8, d_ff=16, max_positions=128,
        )  # fmt: skip
        params = init_params(config, jax.random.key(3))
        kernel = np.random.default_rng(0).normal(size=16).astype(np.float32)
        save_reward_model(folder / "model", config, params, kernel, pad_token_id=tokenizer.pad_id)
        replace(tokenizer, chat_template=TEMPLATE).save(folder / "model")

    return shared(tmp_path_factory, "published", make) / "model"


@pytest.fixture(scope="module")
def session(small_model_dir, tmp_path_factory) -> Session:
    model = load_language_model(
        str(small_model_dir), tmp_path_factory.mktemp("none"), seed=0, dtype="float32",
        progress=QUIET,
    )  # fmt: skip
    return Session.create(
        model, make_mesh(2, 2, 2), prompt_width=12, max_new_tokens=6, sampling=Sampling()
    )


def test_rewards_are_the_scores_of_the_texts(reward_dir, session):
    """Of two batches, the second longer; rows that fill a batch have none."""
    prompts = [PromptRecord(text, {}, f"p:{i}") for i, text in
               enumerate(["say a u", "say b v", "say c w w w", "say d"])]  # fmt: skip
    items = session.model.encoder(max_prompt=12, max_completion=6).prompts(prompts)
    reward = published_reward(reward_dir, PromptReader(session, items), "float32")
    scorer = published_scorer(reward_dir, ReadConfig(batch_size=2), QUIET)
    for start in (0, 2):
        rows = [*items[start : start + 2], None, None]
        group = session.sample(
            session.model.params, session.collate(rows), jax.random.key(start), 3
        )
        texts = session.texts(group)
        records = [GroupRecord(prompts[start + i].prompt, texts[i], {}, "") for i in (0, 1)]
        want = np.stack(scorer(records))
        found = reward.measure(group, texts)["reward"]
        assert np.ptp(want) > 0.01
        np.testing.assert_allclose(found[:2], want, atol=1e-5 * np.abs(want).max())
        np.testing.assert_array_equal(found[2:], 0.0)
        placed = reward.reward(group, None)
        np.testing.assert_allclose(placed, found, rtol=1e-6)
        assert placed.sharding.spec == BATCH


def test_a_policy_learns_from_a_published_reward_model(
    reward_dir, files, small_model_dir, tmp_path
):
    args = ["--loss", "rloo", "--loss.beta", "0.0", "--reward", str(reward_dir), *SAMPLED]
    args += ["--steps", "25", "--train", "full", "--batch-size", "16", "--completions", "8"]
    summary = launch("align", files["prompts"], small_model_dir, tmp_path / "run", *args)
    rewards = [json.loads(line)["reward"] for line in (tmp_path / "run/metrics.jsonl").open()
               if "reward" in json.loads(line)]  # fmt: skip
    assert summary["reward_gain"][0] > 0
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.05


def test_several_labels_are_refused(reward_dir, session, tmp_path):
    place = shutil.copytree(reward_dir, tmp_path / "two")
    tensors = load_file(place / "model.safetensors")
    tensors["score.weight"] = np.concatenate([tensors["score.weight"]] * 2)
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((place / "config.json").read_text())
    config["id2label"] = {"0": "good", "1": "bad"}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has the labels good, bad; a policy learns from a model"):
        published_reward(place, PromptReader(session, []), "float32")


def test_what_is_padding_is_not_scored(reward_dir, session):
    """A reward does not depend on which other completions stand beside it."""
    prompts = [PromptRecord("say a u", {}, "p")]
    items = session.model.encoder(max_prompt=12, max_completion=6).prompts(prompts)
    reward = published_reward(reward_dir, PromptReader(session, items), "float32")
    group = session.sample(session.model.params, session.collate([items[0]] * 4),
                           jax.random.key(0), 2)  # fmt: skip
    found = reward.measure(group, [])["reward"]
    swapped = jax.tree.map(lambda x: jnp.flip(x, axis=0), group)
    again = published_reward(reward_dir, PromptReader(session, items), "float32")
    np.testing.assert_allclose(again.measure(swapped, [])["reward"][::-1], found, atol=1e-5)
