"""An ensemble of reward models, and a regularised one, in a run from preferences to a policy."""

from __future__ import annotations

import html
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
from irl_jax.losses.table import look_up
from irl_jax.models.logprob import completion_logp
from irl_jax.models.lora import attach
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.options import make_options
from irl_jax.recipes.reward import make_ready, objective_of
from irl_jax.recipes.reward_config import MembersConfig, RewardConfig, RewardLearning
from irl_jax.recipes.reward_model import RewardModel, aggregate
from irl_jax.recipes.scorers import ReadConfig, learned_scorer
from irl_jax.train.checkpoint import load_params
from irl_jax.train.objectives import preference_rewards
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import POLICIES, ROWS, configure, learning, write_jsonl

ENSEMBLE = MembersConfig(members=2, aggregate="lower_bound", deviations=0.5)


@pytest.fixture(scope="module")
def config(tiny_model_dir, tmp_path_factory) -> Config:
    """GRPO against two members' lower bound."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = write_jsonl(folder / "prefs.jsonl", ROWS)
    return configure(
        data,
        tiny_model_dir,
        folder / "run",
        reward=learning(
            RewardLearning, "bradley_terry", lr=1e-2, epochs=2, batch_size=8, ensemble=ENSEMBLE
        ),
        policy=replace(POLICIES["grpo"], steps=2),
    )


@pytest.fixture(scope="module")
def prepared(config):
    """What the reward is learned from."""
    with Progress() as progress:
        return prepare(config, look_up("bradley_terry"), look_up("grpo"), "", progress).reward


@pytest.fixture(scope="module")
def training(prepared):
    return prepared.training


@pytest.fixture(scope="module")
def batch(prepared):
    return collated(prepared, 8)


def collated(ready, count=None):
    """The first held-out pairs, or all of them."""
    pairs, pad_id = ready.examples, ready.training.session.model.tokenizer.pad_id
    return collate_preferences(pairs.held_out[:count], pairs.shapes[-1], pad_id=pad_id)


def trained_like(training, key):
    """A reward model of the shapes of a trained one."""
    noise = lambda x: x + 0.1 * jax.random.normal(jax.random.key(9), x.shape)
    adapter = jax.tree.map(noise, training.lora.init(key, training.session.model.params))
    head = {"kernel": jax.random.normal(key, (64,)), "bias": jnp.float32(0.3)}
    return {"decoder": adapter, "head": head}


def test_aggregates_of_two_members():
    rewards = jnp.array([[1.0, 4.0], [3.0, 4.0]])
    judge = lambda name: aggregate(rewards, replace(ENSEMBLE, aggregate=name))
    assert judge("mean").tolist() == [2.0, 4.0]
    assert judge("lower_bound").tolist() == [1.5, 4.0]
    assert judge("worst_case").tolist() == [1.0, 4.0]


def test_the_loss_is_a_mix_with_the_text_loss(config, prepared, training, batch):
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
    options = {"label_smoothing": 0.1, "centering": 0.2, "alpha": 0.4, "beta": 0.3}
    for text, value in texts.items():
        row = look_up(f"grm_{text}")
        own = replace(config.of_reward, options=make_options(row, options))
        objective = objective_of(own, replace(prepared, row=row))
        loss = jax.jit(objective)(params, batch, jax.random.key(0), base)
        assert float(loss.mean) == pytest.approx(0.6 * main + 0.4 * value, rel=1e-4)


def test_members_are_told_apart_and_judged(training, batch):
    """Each as if it were alone, on the head's reading of the last token."""
    own = [trained_like(training, jax.random.key(k)) for k in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *own)
    one = partial(RewardModel, training, MembersConfig())
    alone = np.array([one(params)(batch) for params in own])
    learned = RewardModel(training, ENSEMBLE, stacked)
    np.testing.assert_allclose(learned.members(batch), alone, rtol=1e-4, atol=1e-4)
    mean, spread = np.mean(alone, 0), np.std(alone, 0)
    assert spread.min() > 1e-3
    np.testing.assert_allclose(learned(batch), mean - 0.5 * spread, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"aggregate": "worst_case"}, r"ensemble\.aggregate: worst_case is of several members; "),
        ({"members": 0}, r"ensemble\.members: expected a number in \[1, inf\], got 0"),
        ({"deviations": -1.0}, r"ensemble\.deviations: expected a number in \[0\.0, inf\]"),
    ],
)
def test_an_ensemble_that_means_nothing(settings, says):
    with pytest.raises(InputError, match=says):
        MembersConfig(**settings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 1.5}, r"alpha: expected a number in \[0\.0, 1\.0\]"),
        ({"beta": 0.0}, r"beta: expected"),
    ],
)
def test_a_text_loss_that_means_nothing_is_refused_before_any_work(options, says, prepared):
    row = look_up("grm_sft")
    with pytest.raises(InputError, match=says):
        make_ready(
            RewardConfig(options=make_options(row, options)),
            row,
            prepared.training,
            prepared.examples,
        )


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
    rewards = RewardModel(prepared.training, ENSEMBLE, params).members(collated(prepared))
    rewards = np.asarray(rewards, np.float64)
    reward, policy = (summary_of(finished)[name] for name in ("reward", "policy"))
    ahead = rewards[..., 0] - rewards[..., 1]
    alone = [own["accuracy"][0] for own in reward["members"]["quality"]]
    assert alone == pytest.approx((ahead > 0).mean(1).tolist())
    assert reward["members"]["spread"][0] == pytest.approx(ahead.std(0).mean(), rel=1e-3)
    judged = rewards.mean(0) - 0.5 * rewards.std(0)
    accuracy = reward["quality"]["accuracy"][0]
    assert accuracy == pytest.approx((judged[:, 0] > judged[:, 1]).mean())
    before, after, gain = (policy[f"disagreement_{at}"][0] for at in ("before", "after", "gain"))
    assert before > 0 and gain == pytest.approx(after - before)


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
    assert "disagreement of the reward's members" in html.unescape(page)
    assert "Where they disagree more about what the trained policy writes" in page


@pytest.mark.slow
def test_score_reads_the_aggregate(finished, prepared, params, batch, tmp_path):
    lines = [int(pair.source.rsplit(":", 1)[1]) for pair in prepared.examples.held_out[:4]]
    rows = [ROWS[line - 1] for line in lines]
    groups = [GroupRecord(r["prompt"], [r["chosen"], r["rejected"]], {}, "x:1") for r in rows]
    with Progress() as progress:
        scorer = learned_scorer(str(finished.run_dir), ReadConfig(), tmp_path, progress)
        found = np.array(scorer(groups))
    expected = np.asarray(RewardModel(prepared.training, ENSEMBLE, params)(batch))[:4]
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
