"""Dense rewards of a fine-tuned policy: what tokens earn adds up, and a whole tiny run."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dense_rewards import study as dense_rewards
from experiments.sandbox import task as sandbox
from irl_jax.recipes.cli import run as run_cli
from irl_jax.rewards.embedding import EnsembleConfig
from tests.experiments.test_sandbox import CONFIG as SANDBOX

TINY = replace(
    dense_rewards.CONFIG,
    sandbox=SANDBOX,
    demonstrations=(256,),
    best_of=4,
    held_out=48,
    completions=4,
    epochs=16,
    lr=3e-3,
    reward=EnsembleConfig(members=2, widths=(8,), steps=60, batch_size=64, lr=3e-3),
    seeds=2,
)


def test_what_tokens_earn_adds_up_to_gold():
    task = sandbox.make_task(TINY.sandbox, 0)
    context = sandbox.draw_prompts(task, jax.random.key(1), 8)
    group = sandbox.sample(task, task.reference, context, jax.random.key(2), completions=3)
    worth = dense_rewards.earned(task, group)
    empty = sandbox.gold(task, context, group.action, jnp.zeros_like(group.mask))
    np.testing.assert_allclose(worth.sum(-1) + empty, group.reward, rtol=1e-4, atol=1e-4)
    assert not np.any(np.abs(worth) * ~group.mask > 1e-5)


def test_order_of_tokens():
    mask = np.array([[[True, True, True, True, False]]])
    worth = np.array([[[1.0, 3.0, 2.0, 4.0, 9.0]]])
    assert dense_rewards.of_tokens(worth**3, worth, mask) == pytest.approx(1.0)
    assert dense_rewards.of_tokens(-worth, worth, mask) == pytest.approx(-1.0)
    swapped = np.array([[[3.0, 1.0, 2.0, 4.0, -7.0]]])  # 1 - 6 (4 + 4) / (4 * 15)
    assert dense_rewards.of_tokens(swapped, worth, mask) == pytest.approx(0.2)


@pytest.mark.slow
def test_a_whole_run_finds_the_reward_and_a_second_launch_the_same(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    dense_rewards.main(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    ordered = summary["measures"]["rank correlation"]
    assert ordered[dense_rewards.DENSE][0][0] > 0.2
    assert ordered[dense_rewards.DENSE][0][0] > ordered[dense_rewards.LIKELIHOOD][0][0]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") >= 3
    dense_rewards.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"), [(["--seeds", "1"], "seeds"), (["--demonstrations", "1"], "demonstrations")]
)
def test_refused_before_any_work(flags, says, capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(dense_rewards.main, dense_rewards.CONFIG, args=flags)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
