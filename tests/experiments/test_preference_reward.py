"""An ensemble of reward models, and a regularised one, in a run from preferences to a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.preference_to_policy.config import Config
from experiments.preference_to_policy.study import main, prepare
from irl_jax.data.batches import collate_preferences
from irl_jax.data.jsonl import GroupRecord
from irl_jax.losses.direct import dpo
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.regularisation import chosen_likelihood
from irl_jax.models.logprob import completion_logp
from irl_jax.models.lora import attach
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.preference_reward import RewardModel, aggregate, make_objective
from irl_jax.recipes.preference_training import GrpoConfig, RewardConfig
from irl_jax.recipes.scorers import ReadConfig, learned_scorer
from irl_jax.train.checkpoint import load_params
from irl_jax.train.objectives import preference_rewards
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import ROWS, configure, write_jsonl

ENSEMBLE = RewardConfig(
    lr=1e-2, epochs=2, batch_size=8, members=2, aggregate="lower_bound", deviations=0.5
)


@pytest.fixture(scope="module")
def config(tiny_model_dir, tmp_path_factory) -> Config:
    """GRPO against two members' lower bound."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = write_jsonl(folder / "prefs.jsonl", ROWS)
    return configure(
        data,
        tiny_model_dir,
        folder / "run",
        method="grpo",
        reward=ENSEMBLE,
        grpo=GrpoConfig(steps=2, prompts=8, completions=2, lr=2e-3),
    )


@pytest.fixture(scope="module")
def prepared(config):
    with Progress() as progress:
        return prepare(config, progress)


@pytest.fixture(scope="module")
def training(prepared):
    return prepared[0]


@pytest.fixture(scope="module")
def batch(prepared):
    return collated(*prepared, 8)


def collated(training, pairs, count=None):
    """The first held-out pairs, or all of them."""
    pad_id = training.session.model.tokenizer.pad_id
    return collate_preferences(pairs.held_out[:count], pairs.shapes[-1], pad_id=pad_id)


def trained_like(training, key):
    """A reward model of the shapes of a trained one."""
    noise = lambda x: x + 0.1 * jax.random.normal(jax.random.key(9), x.shape)
    adapter = jax.tree.map(noise, training.lora.init(key, training.session.model.params))
    head = {"kernel": jax.random.normal(key, (64,)), "bias": jnp.float32(0.3)}
    return {"decoder": adapter, "head": head}


def test_aggregates_of_two_members():
    rewards = jnp.array([[1.0, 4.0], [3.0, 4.0]])
    judge = lambda name: aggregate(rewards, RewardConfig(members=2, aggregate=name, deviations=0.5))
    assert judge("mean").tolist() == [2.0, 4.0]
    assert judge("lower_bound").tolist() == [1.5, 4.0]
    assert judge("worst_case").tolist() == [1.0, 4.0]


def test_the_loss_is_a_mix_with_the_text_loss(training, batch):
    """Against the losses themselves, on the rewards and log-probs of the same parameters."""
    params, shape = trained_like(training, jax.random.key(3)), training.session.model
    base = shape.params
    count = len(batch.weight)
    batch = batch.replace(margin=jnp.linspace(0.0, 1.0, count))

    @jax.jit
    def read(params, base, batch):
        options = (shape.config, params, base, batch.context, batch.action, batch.mask)
        decoder = attach(base, params["decoder"], training.lora.scale)
        logp = completion_logp(shape.config, decoder, batch.context, batch.action)
        return preference_rewards(*options, adapt=training.adapt), logp

    reward, logp = read(params, base, batch)
    main = bradley_terry(reward, batch, label_smoothing=0.1, centering=0.2).mean.item()
    plain = batch.replace(margin=jnp.zeros(count))
    texts = {
        "sft": chosen_likelihood(logp, batch, beta=0.3).mean.item(),
        "dpo": dpo(logp, jnp.zeros_like(logp), plain, beta=0.3).mean.item(),
    }
    options = {"label_smoothing": 0.1, "centering": 0.2, "text_beta": 0.3}
    for text, value in texts.items():
        objective = make_objective(training, RewardConfig(regulariser=0.4, text=text, **options))
        loss = jax.jit(objective)(params, batch, jax.random.key(0), base)
        assert float(loss.mean) == pytest.approx(0.6 * main + 0.4 * value, rel=1e-4)


def test_members_are_told_apart_and_judged(training, batch):
    """Each as if it were alone, on the head's reading of the last token."""
    own = [trained_like(training, jax.random.key(k)) for k in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *own)
    one = partial(RewardModel, training, RewardConfig())
    alone = np.array([one(params)(batch) for params in own])
    learned = RewardModel(training, ENSEMBLE, stacked)
    np.testing.assert_allclose(learned.members(batch), alone, rtol=1e-4, atol=1e-4)
    mean, spread = np.mean(alone, 0), np.std(alone, 0)
    assert spread.min() > 1e-3
    np.testing.assert_allclose(learned(batch), mean - 0.5 * spread, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"aggregate": "worst_case"}, r"reward\.aggregate: worst_case is of several members; give"),
        ({"members": 0}, r"reward\.members: expected a number in \[1, inf\], got 0"),
        ({"regulariser": 1.5}, r"reward\.regulariser: expected a number in \[0\.0, 1\.0\]"),
        ({"text_beta": 0.0}, r"reward\.text_beta: expected"),
    ],
)
def test_settings_that_mean_nothing(settings, says):
    with pytest.raises(InputError, match=says):
        RewardConfig(**settings)


# --- a whole run -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(config) -> Config:
    main(config)
    return config


@pytest.fixture(scope="module")
def params(finished):
    return load_params(finished.run_dir / "checkpoints" / "reward")


def summary_of(config: Config) -> dict:
    return json.loads((config.run_dir / "summary.json").read_text())


@pytest.mark.slow
def test_summary_of_members(finished, prepared, params):
    every = collated(*prepared)
    rewards = np.asarray(RewardModel(prepared[0], ENSEMBLE, params).members(every), np.float64)
    found = summary_of(finished)["members"]
    ahead = rewards[..., 0] - rewards[..., 1]
    assert [a[0] for a in found["accuracy"]] == pytest.approx((ahead > 0).mean(1).tolist())
    assert found["pairs"][0] == pytest.approx(ahead.std(0).mean(), rel=1e-3)
    judged = rewards.mean(0) - 0.5 * rewards.std(0)
    accuracy = summary_of(finished)["reward_accuracy"][0]
    assert accuracy == pytest.approx((judged[:, 0] > judged[:, 1]).mean())
    assert found["gain"][0] == pytest.approx(found["after"][0] - found["before"][0])


@pytest.mark.slow
def test_disagreement_is_logged_and_shown(finished):
    rows = read_rows(finished.run_dir / "metrics.jsonl")
    policy = [row for row in rows if row["stage"] == "policy"]
    assert len(policy) == 2 and all(row["disagreement"] > 0 for row in policy)
    trained = [row for row in rows if row["stage"] == "reward"]
    for row in trained:
        assert row["loss"] == pytest.approx(2 * row["member_loss"], rel=1e-5)
    assert trained[-1]["member_loss"] < trained[0]["member_loss"]
    page = (finished.run_dir / "report.html").read_text()
    assert "member 2 alone" in page and "standard deviation over members" in page
    assert "Disagreement on the completions of each update" in page


@pytest.mark.slow
def test_score_reads_the_aggregate(finished, prepared, params, batch, tmp_path):
    lines = [int(pair.source.rsplit(":", 1)[1]) for pair in prepared[1].held_out[:4]]
    rows = [ROWS[line - 1] for line in lines]
    groups = [GroupRecord(r["prompt"], [r["chosen"], r["rejected"]], {}, "x:1") for r in rows]
    with Progress() as progress:
        scorer = learned_scorer(str(finished.run_dir), ReadConfig(), tmp_path, progress)
        found = np.array(scorer(groups))
    expected = np.asarray(RewardModel(prepared[0], ENSEMBLE, params)(batch))[:4]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_eight_devices_train_the_members_of_one(finished, tmp_path):
    many = replace(finished, run_dir=tmp_path / "run", mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    main(many)
    for stage in ("reward", "policy"):
        rows = [
            [r for r in read_rows(c.run_dir / "metrics.jsonl") if r["stage"] == stage]
            for c in (finished, many)
        ]
        for a, b in zip(*rows, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)
