"""The frontier: read off where a run comes to a KL, at a strength chosen on other worlds."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.alignment_frontier import study
from experiments.alignment_frontier.config import CONFIG
from experiments.sandbox.runs import (
    Measuring,
    Signal,
    Training,
    align,
    compared_runs,
    make_signals,
    start_runs,
    world_keys,
)
from experiments.sandbox.task import SandboxConfig, Task, make_task
from experiments.sandbox.world import init_source, init_taste
from irl_jax.losses.direct import dpo
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.logprob import completion_logp
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.methods import offline, rloo, rollout_of
from irl_jax.train.objectives import direct_objective
from irl_jax.types import Group, InputError, Preference, Prompt

SANDBOX = SandboxConfig(
    vocabulary=6, prompt_tokens=2, max_new_tokens=5, width=8, layers=1, demonstrations=256,
    steps=60, batch_size=32,
)  # fmt: skip
REWARD = EnsembleConfig(members=1, widths=(8,), steps=100, batch_size=64, lr=3e-3)
TINY = replace(
    CONFIG,
    sandbox=SANDBOX,
    seeds=3,
    comparisons=128,
    reward=REWARD,
    training=Training(updates=12, every=4, pairs=16, prompts=4, completions=4, lr=5e-3),
    measuring=Measuring(prompts=32, completions=4),
    best_of=8,
    best_of_prompts=8,
)

WHOLE = ("DPO", "GRPO", "Nash-MD")  # of a whole run: pairs, samples, samples beside opponents


def test_the_optimum_of_a_gaussian_reward():
    """E[r] = λ and KL = λ² / 2 where rewards are standard normal."""
    gold = np.random.default_rng(0).normal(size=(2, 4, 20_000))
    best = study.optimum(gold, most=0.2)
    assert np.nanmax(best["kl"]) <= 0.2 * np.log(20_000)
    for level in (0.5, 1.5):
        np.testing.assert_allclose(study.at_kl(best, level), np.sqrt(2 * level), rtol=0.03)


def test_comparisons_move_a_policy_the_less_the_stronger_the_pull():
    """An untrained world; each chosen completion is all ones, each rejected one all twos."""
    shape = DecoderConfig(
        vocab_size=4, d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, d_ff=8,
        max_positions=5,
    )  # fmt: skip
    key = jax.random.key(0)
    make = jax.jit(lambda k: (init_source(k, 4), init_taste(k, 4), init_params(shape, k)))
    source, taste, reference = make(key)
    task = Task(source, taste, reference, shape, prompt_tokens=2, max_new_tokens=3)
    rows = 16
    prompt = Prompt(jnp.ones((rows, 2), jnp.int32), jnp.ones((rows, 2), bool))
    action = jnp.tile(jnp.array([[[1, 1, 1], [2, 2, 2]]]), (rows, 1, 1))
    zeros, ones = jnp.zeros(rows), jnp.ones(rows)
    pairs = Preference(prompt, action, jnp.ones(action.shape, bool), zeros, ones)
    model: Any = None
    tasks, signals = jax.tree.map(lambda x: x[None], (task, Signal(pairs, model, jnp.zeros(()))))
    training = Training(updates=16, every=16, pairs=8, lr=1e-2)
    method = offline(direct_objective, lambda b: partial(dpo, beta=b), ())
    states = compared_runs(
        tasks, signals, world_keys(1, 2), jnp.array([[0.1, 50.0]]),
        start_runs(method, tasks, world_keys(1, 2), training.lr, 2),
        method=method, training=training,
    )  # fmt: skip
    policies = jax.tree.map(
        lambda x, ref: jnp.concatenate([x[0], ref[None]]), states.params, task.reference
    )
    logp = jax.jit(jax.vmap(lambda p: completion_logp(shape, p, prompt, action)[0].sum(-1)))
    ahead = logp(policies)[:, 0] - logp(policies)[:, 1]
    gap = ahead[:2] - ahead[2]
    assert gap[0] > 1.0
    assert 0 < gap[1] < 0.5 * gap[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RLOO", [(4, {})]),
        ("online DPO", [(4, {})]),
        ("ReMax", [(3, {}), (1, {"temperature": 0.0})]),
        ("Nash-MD", [(2, {}), (2, {"share": 0.125, "params": "reference"})]),
    ],
)
def test_all_methods_sample_as_many_completions(name, expected):
    """Also those that sample more than their own."""
    calls = []

    def sample(params, prompts, key, *, completions, **how):
        for guide in how.pop("guides", ()):
            how |= {"share": guide.share, "params": guide.params}
        calls.append((completions, how))
        zeros = jnp.zeros((2, completions, 3))
        return Group(prompts, zeros, zeros > 0, zeros, zeros[..., 0], zeros[..., 0] > 0)

    shape: Any = None
    rollout = rollout_of(sample, study.METHODS[name].beside, 4, shape, "reference")
    group = rollout(None, jnp.zeros((2, 1)), jax.random.key(0))
    assert group.mask.shape == (2, 4, 3)
    assert calls == expected


@pytest.fixture(scope="module")
def world():
    tasks = jax.tree.map(lambda x: x[None], make_task(SANDBOX, 0))
    signals = make_signals(
        tasks, world_keys(1, 1), comparisons=256, beta=8.0, config=replace(REWARD, members=2)
    )
    return tasks, signals


def runs(world, method, gold):
    tasks, signals = world
    return align(
        tasks, signals, world_keys(1, 2), jnp.array([0.1, 100.0]), gold, method=method,
        training=Training(updates=24, every=12, pairs=16, prompts=8, completions=4, lr=5e-3),
        measuring=Measuring(prompts=64, completions=4),
    )  # fmt: skip


@pytest.mark.slow
def test_policies_gain_gold_and_a_pull_to_the_reference_holds_them(world):
    from_pairs = runs(world, offline(direct_objective, lambda b: partial(dpo, beta=b), ()), 0)
    on_gold = runs(world, rloo(()), 2.0)
    for found in (from_pairs, on_gold):
        assert found.gold.shape == (1, 2, 2)
        assert found.gold[0, 0, -1] > 0.3
        assert found.kl[0, 0, -1] > 3 * max(found.kl[0, 1, -1], 0.02)


def test_bad_input():
    with pytest.raises(InputError, match=r"training\.updates"):
        study.check(replace(TINY, training=replace(TINY.training, every=5)))
    with pytest.raises(InputError, match="seeds"):
        study.check(replace(TINY, seeds=2))
    with pytest.raises(InputError, match=r"^training\.completions: Nash-MD needs at least 3"):
        study.check(replace(TINY, training=replace(TINY.training, completions=2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in study.METHODS if name not in WHOLE])
def test_every_method_trains(world, name):
    """An update and a measurement are traced: compiling them would take ten times as long."""
    once = partial(
        align, method=study.METHODS[name], training=replace(TINY.training, updates=1, every=1),
        measuring=TINY.measuring,
    )  # fmt: skip
    strengths = jnp.asarray(study.METHODS[name].strengths)
    found = jax.eval_shape(once, *world, world_keys(1, 2), strengths, 2.0)
    assert {field.shape for field in vars(found).values()} == {(1, 2, 1)}


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    config = replace(TINY, methods=WHOLE, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert {r["method"] for r in summary["rows"]} == {*WHOLE, study.BEST_OF_N}
    base = summary["rows"][0]
    assert base["method"] == study.BASE
    assert base["against"] == [None] * 3
    chosen = np.load(config.run_dir / "best_of_n.npz")
    top = next(
        r for r in summary["runs"] if r["method"] == study.BEST_OF_N and r["teacher"] == "gold"
    )
    assert top["gold"][-1] == pytest.approx(chosen["gold"].max(-1).mean(), rel=1e-5)
    before = (config.run_dir / "summary.json").read_bytes()
    study.main(config)
    assert (config.run_dir / "summary.json").read_bytes() == before
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in WHOLE)
