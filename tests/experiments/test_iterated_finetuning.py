"""Rounds of fine-tuning on one's own samples: who is kept, and what that does."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.iterated_finetuning import study
from experiments.iterated_finetuning.report import BASE
from experiments.sandbox.runs import Measuring, make_signals, world_keys
from experiments.sandbox.task import SandboxConfig, make_task
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.types import Group, InputError, Prompt

TINY = replace(
    study.CONFIG,
    sandbox=SandboxConfig(
        vocabulary=6, prompt_tokens=2, max_new_tokens=5, width=8, layers=1, demonstrations=256,
        steps=60, batch_size=32,
    ),
    seeds=2,
    comparisons=128,
    reward=EnsembleConfig(members=1, widths=(8,), steps=100, batch_size=64, lr=3e-3),
    rounds=3,
    prompts=16,
    completions=4,
    lr=5e-3,
    measuring=Measuring(prompts=64, completions=4),
)  # fmt: skip


def test_what_an_epoch_learns_from():
    reward = jnp.array([[0.0, 1.0, 5.0, 6.0], [2.0, 3.0, 4.0, -1.0]])
    shape = (2, 4, 3)
    group = Group(
        Prompt(jnp.ones((2, 1), jnp.int32), jnp.ones((2, 1), bool)),
        action=jnp.ones(shape, jnp.int32),
        mask=jnp.ones(shape, bool),
        logp=jnp.zeros(shape),
        reward=reward,
        terminated=jnp.ones((2, 4), bool),
    )
    who = lambda epoch: epoch(group, jnp.float32(4.0)).group.mask[..., 0].astype(int).tolist()
    assert who(study.RAFT) == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert who(study.RIGHT) == [[0, 0, 1, 1], [0, 0, 1, 0]]
    rest = study.RECIPES["ReST"].epochs
    assert [int(np.sum(who(epoch))) for epoch in rest] == [4, 2, 1]
    assert who(study.ADVANTAGE) == np.ones((2, 4)).tolist()


@pytest.mark.slow
def test_rounds_gain_what_is_rewarded():
    tasks = jax.tree.map(lambda x: x[None], make_task(TINY.sandbox, 0))
    config = replace(TINY, seeds=1)
    signals = make_signals(
        tasks, world_keys(1, 1), comparisons=128, beta=8.0, config=TINY.reward
    )  # fmt: skip
    found = study.rounds(config, tasks, signals, study.RECIPES["RAFT"])
    assert found["gold"].shape == (1, 2, 3)
    by_gold = found["gold"][0, study.TEACHERS.index("gold")]
    assert by_gold[-1] > 0.5
    assert found["kl"][0, 1, -1] > 0.1


def test_bad_input():
    with pytest.raises(InputError, match="minibatches"):
        study.check(replace(TINY, minibatches=3))
    with pytest.raises(InputError, match="seeds"):
        study.check(replace(TINY, seeds=1))


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert len(summary["rows"]) == 2 * len(study.RECIPES)
    assert summary["samples"] == [64, 128, 192]
    kept = {name: np.load(config.run_dir / f"{name}.npz") for name in study.RECIPES}
    for row in summary["rows"]:
        t, name = study.TEACHERS.index(row["teacher"]), row["recipe"]
        gold = kept[name]["gold"][:, t, -1]
        assert row["gold"][0] == pytest.approx(gold.mean(), rel=1e-5)
        if name != BASE:
            less = (gold - kept[BASE]["gold"][:, t, -1]).mean()
            assert row["against"][0] == pytest.approx(less, rel=1e-4, abs=1e-6)
    p = summary["corrected"]["against"]
    others = [f"{n} on {t}" for t in study.TEACHERS for n in study.RECIPES if n != BASE]
    assert list(p) == others and all(0 <= value <= 1 for value in p.values())
    assert all(name in (config.run_dir / "report.html").read_text() for name in study.RECIPES)
