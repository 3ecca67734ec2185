"""`irl-jax irl` as its user runs it: whole commands on a small model, resuming, mistakes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from irl_jax.__main__ import main
from irl_jax.data.batches import Row
from irl_jax.data.jsonl import GroupRecord
from irl_jax.losses.table import LOSSES, look_up
from irl_jax.models.pretrained import load_pretrained
from irl_jax.recipes import control, imitation
from irl_jax.recipes.align_config import SampleConfig
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.irl import train
from irl_jax.recipes.irl_alone import Alone
from irl_jax.recipes.irl_config import DiscriminatorLearning, IrlConfig
from irl_jax.recipes.irl_training import Turns, prepare
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.options import with_options
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.reward_model import reward_params
from irl_jax.recipes.scorers import ReadConfig, learned_scorer, run_settings
from irl_jax.train import actor_critic, adversarial
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError
from tests.losses import test_adversarial as on_a_table
from tests.losses import test_divergence as on_divergences
from tests.recipes.test_commands import SMALL, text_of

# FAIRL pays most where demonstrations are e times rarer than samples: its policies go astray
BY_TURNS = [name for name, row in LOSSES.items() if row.trains == "both" and name != "fairl"]
GOLD = """
def kind(prompts, completions, **columns):
    return [float(text.count("kind")) for text in completions]
"""


def configure(name: str, path: Path, model: Path, **own) -> IrlConfig:
    """The settings of a short run on one device."""
    if look_up(name).reward is not None:
        own = {"discriminator": DiscriminatorLearning(lr=1e-2)} | own
    config = IrlConfig(
        loss=name,
        data=DataConfig(path=path, held_out=0.3, buckets=1),
        model=str(model),
        run_dir=path.parent / "unused",
        steps=2,
        lr=1e-2,
        batch_size=8,
        completions=2,
        lora=LoraConfig(rank=2, alpha=4.0),
        mesh=MeshConfig(data=1),
    )
    return with_options(replace(config, **own), look_up(name))


def run_of(config: IrlConfig, place: Path):
    """Trains; returns the state and the metrics."""
    with Progress(io.StringIO()) as progress, RunDirectory(place, {}) as run:
        ready = prepare(replace(config, run_dir=place), look_up(config.loss), "", progress)
        state = train(config, ready, run, progress)
        return jax.device_get((state.params, state.opt_state)), run.metrics()


def test_a_whole_run_and_its_reward(files, small_model_dir, tmp_path, capsys):
    (tmp_path / "gold.py").write_text(GOLD)
    run_dir = tmp_path / "run"
    command = [
        "irl", "--loss", "gail", "--data.path", str(files["demonstrations"]), "--model",
        str(small_model_dir), "--run-dir", str(run_dir), *SMALL, "--completions", "2",
        "--gold", f"{tmp_path / 'gold.py'}:kind",
    ]  # fmt: skip
    main(command)
    summary = json.loads((run_dir / "summary.json").read_text())
    for name in ("reward", "gold", "told_apart", "distinct", "self_bleu"):
        estimate, low, high = summary[f"{name}_after"]
        assert low <= estimate <= high
    assert summary["held_out"]["before"]["loss"] > 0
    load_pretrained(run_dir / "export")
    told = capsys.readouterr().out
    assert "NLL of held-out demonstrations" in told and "answers with less reward" in told
    assert "samples told from the demonstration" in text_of(run_dir / "report.html")
    main(command)
    assert "this run is complete" in capsys.readouterr().out
    scored = learned_scorer(
        str(run_dir), ReadConfig(batch_size=4), tmp_path, Progress(io.StringIO())
    )
    groups = [GroupRecord("say a u", ["good fine", "kind"], {}, "x:1")]
    params, settings = reward_params(run_dir), run_settings(run_dir)
    assert settings["loss"] == "gail" and set(params) == {"decoder", "head"}
    (found,) = scored(groups)
    assert found.shape == (2,) and np.isfinite(found).all() and found[0] != found[1]


def test_a_reward_of_tokens_scores_no_whole_responses(tmp_path):
    settings = {"model": "tiny", "lora": {}, "data": {}, "loss": "r_airl"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="its reward judges tokens"):
        run_settings(tmp_path)
    # that of every token too, but learned from whole responses
    settings |= {"loss": "token_verifier", "ensemble": {}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="this run is not finished"):
        run_settings(tmp_path)


@pytest.mark.slow
def test_a_whole_run_of_a_policy_alone(files, small_model_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    main([
        "irl", "--loss", "spin", "--loss.every", "1", "--data.path", str(files["demonstrations"]),
        "--model", str(small_model_dir), "--run-dir", str(run_dir), *SMALL, "--completions", "1",
    ])  # fmt: skip
    summary = json.loads((run_dir / "summary.json").read_text())
    for name in ("reward", "told_apart", "distinct", "self_bleu"):
        estimate, low, high = summary[f"{name}_after"]
        assert low <= estimate <= high
    assert summary["reward_after"][0] == pytest.approx(summary["kl"][0], rel=1e-3, abs=1e-4)
    load_pretrained(run_dir / "export")
    assert "NLL of held-out demonstrations" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"spin learns no reward model, its reward is log π/π_ref"):
        run_settings(run_dir)


WITH_DISCRIMINATOR = {
    "beta": 0.1,
    "discriminator": DiscriminatorLearning(lr=1e-2, updates=2),
}


@pytest.mark.parametrize(
    "name",
    ["r_airl", "spin", "iq_learn_online", pytest.param("raro", marks=pytest.mark.slow)],
)
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(
    name, files, small_model_dir, tmp_path, monkeypatch
):
    alone = look_up(name).reward is None
    config = configure(
        name, files["demonstrations"], small_model_dir, save_every=1,
        **({} if alone else WITH_DISCRIMINATOR),
    )  # fmt: skip
    if name == "spin":  # a new opponent between the two updates
        config = with_options(config, look_up(name), {"beta": 0.1, "every": 1})
    whole, rows = run_of(config, tmp_path / "whole")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(value) for row in rows for value in row.values() if value != "irl")
    with monkeypatch.context() as patch:
        loop = Alone if alone else Turns
        rollout, calls = loop.rollout, []

        def stopped(self, params, batch, key):
            calls.append(key)
            if len(calls) == 2:
                raise InputError("stopped")
            return rollout(self, params, batch, key)

        patch.setattr(loop, "rollout", stopped)
        with pytest.raises(InputError, match="stopped"):
            run_of(config, tmp_path / "parts")
    parts, _ = run_of(config, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TURNS)
def test_the_policy_comes_to_what_was_demonstrated(name, files, small_model_dir, tmp_path):
    """The expert always writes one token, which the policy does at times."""
    config = configure(
        name, files["demonstrations"], small_model_dir, run_dir=tmp_path, steps=40, batch_size=16,
        completions=8, lr=3e-2, sample=SampleConfig(max_new_tokens=8),
    )  # fmt: skip
    if config.loss == "spin":
        config = with_options(config, look_up(name), {"beta": 0.1, "every": 5})
    if look_up(name).reward is not None:
        config = replace(config, discriminator=DiscriminatorLearning(lr=3e-2))
    with Progress(io.StringIO()) as progress, RunDirectory(tmp_path, {}) as run:
        ready = prepare(config, look_up(name), "", progress)
        session = replace(ready.training.session, max_new_tokens=1)
        prompts = session.collate(ready.examples.train_prompts[:8])
        drawn = session.sample(session.model.params, prompts, jax.random.key(0), 64).action
        token = int(np.bincount(np.asarray(drawn).ravel()).argsort()[-2])
        rows = [Row((replace(row.items[0], completion=[token]),)) for row in ready.examples.train]
        training = replace(ready.training, session=session)
        ready = replace(ready, training=training, examples=replace(ready.examples, train=rows))
        train(config, ready, run, progress)
        nll = [row["demonstration_nll"] for row in run.metrics()]
    assert np.mean(nll[-5:]) < 0.5 * nll[0]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--loss", "dpo"], "dpo trains a policy; give it to irl-jax align --loss dpo"),
        (["--loss", "gail", "--loss.b", "2"], "b: expected"),
        (["--loss", "gail", "--completions", "1"], "completions: expected"),
        (["--loss", "gail", "--beta", "-1"], "beta: expected"),
        (["--loss", "spin", "--beta", "0.1"], "beta: spin has no KL to the model in its loss"),
        (["--loss", "spin", "--discriminator.lr", "1"], "discriminator: spin has no discrim"),
        (["--loss", "spin", "--loss.every", "0"], "loss.every: expected"),
        (["--loss", "iq_learn_online", "--sample.temperature", "0.5"], "temperature: expected 1"),
        (["--loss", "iq_learn_online", "--loss.alpha", "0"], "loss.alpha: expected"),
        (["--loss", "iq_learn_online", "--loss.discount", "1.5"], "loss.discount: expected"),
        (["--loss", "gail", "--sample.max-new-tokens", "1"], "raise sample.max_new_tokens"),
    ],
)
def test_mistakes(flags, said, files, small_model_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["irl", "--data.path", str(files["demonstrations"]), "--model", str(small_model_dir),
              "--run-dir", str(tmp_path / "run"), *SMALL, *flags])  # fmt: skip
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_loss_by_turns_belongs_to_its_command(files, small_model_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["align", "--loss", "gail", "--data.path", str(files["demonstrations"])])
    assert "gail trains a policy and its reward; give it to irl-jax irl" in capsys.readouterr().err


def test_one_function_serves_tables_control_and_language():
    """The very objects: on a table, in classic control, and on a decoder."""
    row = look_up("gail")
    for place in (on_a_table, imitation):
        assert place.binary_cross_entropy is row.loss
    assert imitation.gail is row.reward
    for place in (imitation, adversarial):
        assert place.discriminator_batch is on_divergences.discriminator_batch
    assert look_up("fairl").reward is imitation.fairl
    assert (control.gae, control.ppo) == (actor_critic.gae, actor_critic.ppo)
