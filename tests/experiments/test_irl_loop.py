"""Inverse RL by turns in the sandbox: who demonstrates, what moves when, what is measured."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.irl_loop.config import CONFIG, HardConfig, LearningConfig
from experiments.irl_loop.methods import METHODS, Rates
from experiments.irl_loop.study import main, rank_correlation, several
from experiments.sandbox.expert import ExpertConfig, demonstrate
from experiments.sandbox.runs import Measuring
from experiments.sandbox.task import SandboxConfig, gold, make_task, sample
from irl_jax.types import InputError

SANDBOX = SandboxConfig(
    vocabulary=6, prompt_tokens=2, max_new_tokens=5, width=8, layers=1, demonstrations=256,
    steps=60, batch_size=32,
)  # fmt: skip
LEARNING = LearningConfig(updates=4, every=2, prompts=4, completions=2, lr=5e-3, rewarded_lr=5e-3)
TINY = replace(
    CONFIG,
    methods=("SFT", "AfD"),
    demonstrations=(8,),
    seeds=2,
    sandbox=SANDBOX,
    expert=ExpertConfig(tilt=3.0, pool=8),
    learning=LEARNING,
    hard=HardConfig(updates=2, every=1, prompts=2, completions=2),
    measuring=Measuring(prompts=8, completions=2),
)
RATES = Rates(
    policy=5e-3, rewarded=5e-3, discriminator=5e-3, completions=2, updates=4, every=2, beta=0.1
)


@pytest.fixture(scope="module")
def tasks():
    return jax.tree.map(lambda *x: jnp.stack(x), *(make_task(SANDBOX, seed) for seed in (0, 1)))


def test_the_expert_draws_from_the_tilted_reference(tasks):
    """With an endless tilt it is the best of the pool, with none any of it."""
    keys = jax.random.split(jax.random.key(0), 2)
    draw = lambda tilt: demonstrate(tasks, keys, count=64, config=ExpertConfig(tilt, pool=8))
    best, plain = draw(1e6), draw(0.0)
    assert np.all(np.asarray(best[1]) > np.asarray(plain[1]) + 0.5)
    task, shown = jax.tree.map(lambda x: x[0], (tasks, best[0]))
    act = jax.random.split(keys[0])[1]
    acting = jax.random.split(jax.random.split(act, 64)[5])[0]
    row = jax.tree.map(lambda x: x[5:6], shown.context)
    pool = sample(task, task.reference, row, acting, completions=8)
    found = gold(task, row, shown.action[5:6], shown.mask[5:6])
    np.testing.assert_allclose(found[0, 0], pool.reward.max(), rtol=1e-4, atol=1e-4)


def moved(before, after):
    return any(np.any(x != y) for x, y in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def after(name, tasks, updates):
    """Parameters after each two of the updates, and before."""
    method = METHODS[name]
    shown, _ = demonstrate(
        tasks, jax.random.split(jax.random.key(0), 2), count=8, config=TINY.expert
    )
    keys = jax.random.split(jax.random.key(1), 2)
    begin = jax.vmap(
        lambda task, key: jax.vmap(lambda _: method.start(task, key, RATES))(jnp.arange(1))
    )
    states = begin(tasks, keys)
    update = several(method, RATES, 4)
    found = [jax.device_get(states.params)]
    for _ in range(updates // 2):
        states = update(tasks, shown, keys, jnp.full((2, 1), 8), states)
        found.append(jax.device_get(states.params))
    return found


def test_the_reward_is_learned_first_and_the_policy_after_it(tasks):
    start, middle, end = after("AfD", tasks, 4)
    assert not moved(start["policy"], middle["policy"])
    assert moved(start["discriminator"], middle["discriminator"])
    assert moved(middle["policy"], end["policy"])
    assert not moved(middle["discriminator"], end["discriminator"])


def test_the_opponent_becomes_the_policy(tasks):
    start, middle = after("SPIN", tasks, 2)
    assert moved(start["policy"], middle["policy"])
    jax.tree.map(np.testing.assert_array_equal, middle["policy"], middle["opponent"])


def test_rank_correlations_are_within_prompts():
    rng = np.random.default_rng(0)
    reward, truth = rng.normal(size=(2, 5, 7))
    by_hand = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(reward, truth, strict=True)]
    shifted = reward + 100 * rng.normal(size=(5, 1))
    found = rank_correlation(jnp.asarray(shifted), jnp.asarray(truth))
    np.testing.assert_allclose(found, np.mean(by_hand), rtol=1e-5)


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    main(replace(TINY, run_dir=tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["method"] for row in summary["rows"]] == list(TINY.methods)
    for row in summary["rows"]:
        for name in ("gold", "kl", "fresh", "own"):
            assert np.isfinite(row[name]).all()
    assert set(summary["corrected"][0]) == {"AfD"}
    assert all(len(row["gold"]) == 2 for row in summary["hard"])
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Optimised hard" in report and "AfD" in report


def test_mistakes_are_named():
    with pytest.raises(InputError, match="methods"):
        replace(CONFIG, methods=("BC",))
    with pytest.raises(InputError, match=r"learning\.updates: must be a multiple"):
        LearningConfig(updates=5, every=2)
    with pytest.raises(InputError, match=r"hard\.updates: must be a multiple"):
        HardConfig(updates=5, every=2)
