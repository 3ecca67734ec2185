"""Every published loss by its name trains a language model in the direction it should."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irl_jax.losses.table import LOSSES, look_up
from irl_jax.recipes import align, reward
from irl_jax.recipes.align_config import AlignConfig, SampleConfig
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.options import with_options
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.reward_config import RewardConfig
from irl_jax.recipes.run_config import EvaluationConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

FILES = {"ordinal": "stars", "regression": "stars"}  # where it is not the kind's own
FROM_DATA = [name for name, row in LOSSES.items() if row.kind != "prompts" and row.trains != "both"]
FROM_SAMPLES = [name for name, row in LOSSES.items() if row.kind == "prompts" and not row.taught]
FROM_TEACHERS = [name for name, row in LOSSES.items() if row.taught]

# A loss whose weights follow the policy may rise where what it asks for is done.
SURROGATES = {"wpo": lambda line: line["reward_rejected"] - line["reward_chosen"]}
REWARD = """
def vowels(prompts, completions, answer, **columns):
    assert all(prompt.endswith(own) for prompt, own in zip(prompts, answer, strict=True))
    return [5.0 * sum(text.count(letter) for letter in "aeiou") for text in completions]
"""


def configure(kind: type, name: str, files: dict[str, Path], model: Path, run_dir: Path, **own):
    """The settings of a short run on one device."""
    row = look_up(name)
    config = kind(
        loss=name,
        data=DataConfig(path=files[FILES.get(name, row.kind)], held_out=0.3, buckets=1),
        model=str(model),
        run_dir=run_dir,
        steps=3,
        lr=1e-3,
        batch_size=48,
        lora=LoraConfig(rank=4, alpha=8.0),
        evaluation=EvaluationConfig(prompts=8, completions=2, batch_size=8),
        mesh=MeshConfig(data=1),
        **own,
    )
    return row, with_options(config, row)


def losses_of(config, row, progress, run) -> list[float]:
    """The loss of every update; all that is learned from is in one batch."""
    module = align if row.trains == "policy" else reward
    ready = module.prepare(config, row, "", progress)
    assert len(ready.examples.train) <= config.batch_size
    module.train(config, ready, run, progress)
    measure = SURROGATES.get(config.loss, lambda line: line["loss"])
    return [measure(line) for line in run.metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_DATA)
def test_the_loss_of_the_data_falls(name, files, small_model_dir, tmp_path):
    kind = AlignConfig if look_up(name).trains == "policy" else RewardConfig
    row, config = configure(kind, name, files, small_model_dir, tmp_path / "run")
    with Progress(io.StringIO()) as progress, RunDirectory(tmp_path / "run", {}) as run:
        before, *_, after = losses_of(config, row, progress, run)
    assert after < before


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_SAMPLES)
def test_the_reward_of_samples_rises(name, files, small_model_dir, tmp_path):
    (tmp_path / "rewards.py").write_text(REWARD)
    row, config = configure(
        AlignConfig, name, files, small_model_dir, tmp_path / "run",
        reward=f"{tmp_path / 'rewards.py'}:vowels",
        completions=2 if look_up(name).form == "exploring" else 8,
        sample=SampleConfig(max_new_tokens=8),
    )  # fmt: skip
    pairs = row.form in ("judged", "exploring", "self_play")  # a pair teaches less than a group
    steps, lr = 80 if pairs else 20, 0.02 if row.form == "exploring" else 0.1
    config = replace(config, steps=steps, lr=lr, batch_size=16)
    with Progress(io.StringIO()) as progress, RunDirectory(tmp_path / "run", {}) as run:
        align.train(config, align.prepare(config, row, "", progress), run, progress)
        rows = run.metrics()
    assert [line["step"] for line in rows] == [*range(1, steps + 1)]
    assert all(np.isfinite(line["loss"]) for line in rows)
    reward = [line["reward"] for line in rows]
    assert np.mean(reward[steps // 2 :]) > 1.2 * np.mean(reward[:2])


@pytest.mark.slow
@pytest.mark.parametrize("train", ["lora", "full"])
@pytest.mark.parametrize("name", FROM_TEACHERS)
def test_the_policy_comes_to_its_teacher(
    name, train, files, small_model_dir, teacher_dir, tmp_path
):
    row, config = configure(
        AlignConfig, name, files, small_model_dir, tmp_path / "run",
        teacher=str(teacher_dir), train=train, completions=8, sample=SampleConfig(max_new_tokens=4),
    )  # fmt: skip
    config = replace(config, steps=40, lr=0.05 if train == "lora" else 0.02, batch_size=16)
    with Progress(io.StringIO()) as progress, RunDirectory(tmp_path / "run", {}) as run:
        align.train(config, align.prepare(config, row, "", progress), run, progress)
        divergence = [line["divergence"] for line in run.metrics()]
    assert np.mean(divergence[-5:]) < 0.6 * np.mean(divergence[:2])
