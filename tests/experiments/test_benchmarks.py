from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.benchmarks import launch, reward_ensemble, sampling, sft_step
from experiments.benchmarks.peers import irl_jax_update
from experiments.benchmarks.peers.task import Task


def number(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    assert found, output
    return float(found[1].replace(",", ""))


def test_sft_step_reports_its_share_of_the_matmul_rate(capsys, monkeypatch):
    monkeypatch.setattr(sft_step, "matmul_rate", lambda dtype: 100.0)
    monkeypatch.setattr(sft_step, "seconds", lambda call, repeats: [(call(), 0.5)[1]] * repeats)
    sft_step.main(replace(sft_step.CONFIG, model="tiny", batch=2, length=8, repeats=1))
    output = capsys.readouterr().out
    parameters = number(r"parameters\s+([\d,]+)", output)
    share = 6 * parameters * 16 / 0.5 / 1e9 / 100
    assert number(r"tokens / time\s+([\d.]+) % of it", output) == pytest.approx(
        100 * share, rel=1e-3
    )


def test_sampling_times_only_what_it_drew():
    config = replace(
        sampling.CONFIG, model="tiny", prompts=2, completions=2, prompt_tokens=4, new_tokens=3,
        repeats=1,
    )  # fmt: skip
    times = sampling.time_ours(config)
    assert len(times) == 1
    assert times[0] > 0


@pytest.mark.slow
def test_policy_updates_begin_at_the_reference():
    task = Task(
        name="", directory="", vocab_size=sft_step.TINY.vocab_size, prompts=2, completions=2,
        prompt_tokens=4, completion_tokens=3, beta=0.1, dtype="float32", updates=1,
    )  # fmt: skip
    shape, params = sft_step.decoder("tiny")
    update, state = irl_jax_update.dpo(task, shape, params)
    _, metrics = update(state, jax.random.key(0))
    assert float(metrics["loss"]) == pytest.approx(math.log(2), abs=1e-5)
    update, state = irl_jax_update.grpo(task, shape, params)
    _, metrics = update(state, jax.random.key(0))
    assert float(metrics["ratio"]) == pytest.approx(1, abs=1e-4)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-4)
    assert len(task.words(5, seed=0).split()) == 5
    assert task.end not in task.words(2000, seed=1).split()


def test_an_ensemble_learns_what_a_loop_over_pytorch_models_learns(capsys, monkeypatch):
    pytest.importorskip("torch", reason='PyTorch is missing; pip install "irl_jax[parity]"')
    monkeypatch.setattr(reward_ensemble, "matmul_rate", lambda dtype: 100.0)
    config = replace(
        reward_ensemble.CONFIG, pairs=2000, held_out=1000, dim=8, widths=(16, 8), members=3,
        passes=6, batch=200, lr=2e-2, torch_lr=1e-2, rounds=1,
    )  # fmt: skip
    timers = {"irl_jax": reward_ensemble.time_ours, "torch": reward_ensemble.time_torch}
    accuracy = {}

    def here(config, worker):
        result = timers[worker](config)
        accuracy[worker] = result["accuracy"]
        return result

    monkeypatch.setattr(reward_ensemble, "in_child", here)
    reward_ensemble.main(config)
    assert len(accuracy["irl_jax"]) == 3
    assert min(accuracy["irl_jax"]) > 0.75
    assert accuracy["irl_jax"] == pytest.approx(accuracy["torch"] * 3, abs=0.04)
    output = capsys.readouterr().out
    seconds = [number(rf"{name}\s+([\d.e-]+) s a model", output) for name in ("torch", "irl_jax")]
    assert number(r"ratio\s+([\d.]+)", output) == pytest.approx(
        seconds[0] / seconds[1], rel=1e-2, abs=0.01
    )


def test_pairs_of_the_ensemble_benchmark_are_in_the_order_of_a_noisy_rater():
    config = replace(reward_ensemble.CONFIG, pairs=3000, held_out=500, dim=6)
    pairs, held_out = reward_ensemble.make_pairs(config)
    assert (pairs.shape, held_out.shape) == ((3000, 2, 6), (500, 2, 6))
    directions = np.random.default_rng(0).normal(size=(6, 4)) / np.sqrt(6)
    reward = 3 * np.tanh(pairs @ directions).sum(-1)
    ahead = reward[:, 0] - reward[:, 1]
    wanted = (1 / (1 + np.exp(-np.abs(ahead)))).mean()
    assert (ahead > 0).mean() == pytest.approx(wanted, abs=0.03)


@pytest.mark.slow
def test_launch_marks_are_in_order(capsys):
    launch.main(replace(launch.CONFIG, model="tiny", length=8))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        marks = [float(x) for x in re.findall(r"[a-z] (\d+\.\d)", line)]
        assert len(marks) == 5
        assert marks == sorted(marks)


def test_worker_prints_json(capsys):
    config = replace(
        sampling.CONFIG, model="tiny", prompts=1, prompt_tokens=2, new_tokens=2, repeats=1,
        worker="irl_jax",
    )  # fmt: skip
    sampling.main(config)
    assert len(json.loads(capsys.readouterr().out)) == 1
