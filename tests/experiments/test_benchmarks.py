from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import (
    attention,
    imitation_library,
    launch,
    reward_ensemble,
    sampling,
    sft_step,
)
from experiments.benchmarks.peers import imitation_task, irl_jax_imitation, irl_jax_update
from experiments.benchmarks.peers.task import Task
from irl_jax.types import InputError, Trajectory


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


def test_the_plan_that_is_timed_is_the_gradient_of_the_likelihood():
    """By differences, in float64; and the sparse process is the dense one."""
    arrays = imitation_library.grid(2, 3, horizon=4)
    prob, shown, reward = arrays["prob"], arrays["demonstrated"], arrays["reward"]
    np.testing.assert_allclose(prob.sum(-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(shown.sum((1, 2)), 1.0, atol=1e-12)

    def cost(reward):
        value, total = np.zeros(6), 0.0
        for t in reversed(range(4)):
            q = reward[:, None] + prob @ value
            value = np.log(np.exp(q).sum(-1))
            total -= (shown[t] * (q - value[:, None])).sum()
        return total

    with jax.enable_x64(True):
        mdp = irl_jax_imitation.sparse(prob, arrays["start"])
        found = jax.jit(irl_jax_imitation.likelihood_gradient(mdp, shown))(reward)
    step = 1e-5 * np.eye(6)
    wanted = [(cost(reward + e) - cost(reward - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    dense = np.zeros_like(prob)
    state, action = np.ogrid[:6, :4]
    np.add.at(dense, (state[..., None], action[..., None], mdp.successor), np.asarray(mdp.prob))
    np.testing.assert_allclose(dense, prob, atol=1e-12)


def test_libraries_that_find_other_visits_are_not_compared():
    imitation_library.same_visits({"a": [{"visits": [1.0, 2.0]}], "b": [{"visits": [1.0, 2.0]}]})
    with pytest.raises(InputError, match="do not find the same visits"):
        imitation_library.same_visits({"a": [{"visits": [1.0]}], "b": [{"visits": [1.1]}]})
    with pytest.raises(InputError, match="work: no sing"):
        imitation_library.main(replace(imitation_library.CONFIG, work=("sing",)))


def test_the_pole_falls_and_nothing_ends():
    env = irl_jax_imitation.endless_cartpole()
    push, state, earned, turned = jax.jit(env.step), jnp.array([0.0, 0.0, 0.1, 1.0]), [], []
    for _ in range(100):
        state, reward, ended = push(state, 1, None)
        earned.append(float(reward))
        turned.append(float(state[2]))
        assert not ended and abs(turned[-1]) <= np.pi
    up = [abs(angle) <= np.radians(12) for angle in turned]
    assert earned[0] == 1.0 and float(state[0]) > 2.4 and earned[-1] == 0.0
    assert earned[:40] == [float(x) for x in up[:40]] and not all(up[:40])


def test_observations_are_in_units_and_bounded():
    seen = np.array([[[1.2, -1.0, np.radians(6), 3.0], [99.0, -99.0, 1.0, -1.0]]])
    wanted = np.array([[[0.5, -0.5, 0.5, 1.5], [3.0, -3.0, 3.0, -0.5]]])
    none: list = [None] * 5
    env, shown = irl_jax_imitation.bounded(
        irl_jax_imitation.endless_cartpole(), Trajectory(jnp.asarray(seen), *none)
    )
    np.testing.assert_allclose(shown.context, wanted, rtol=1e-5)
    np.testing.assert_allclose(env.observe(jnp.asarray(seen[0, 1])), wanted[0, 1], rtol=1e-5)


def test_times_of_two_libraries_and_their_ratios(capsys, monkeypatch):
    given = []

    def child(interpreter, module, task, variables):
        given.append((interpreter, module.rpartition(".")[2], task, variables))
        seconds = 8.0 if "imitation_control" in module else float(len(given))
        return {"cpu": seconds, "wall": 2 * seconds, "return": 477.0 + task.seed, "steps": 7}

    monkeypatch.setattr(imitation_library, "in_child", child)
    monkeypatch.setattr(imitation_library, "demonstrations", lambda: {})
    config = replace(
        imitation_library.CONFIG, work=("learn",), imitation="theirs", repeats=2, seed=3
    )
    imitation_library.main(config)
    output = capsys.readouterr().out
    modules = ["imitation_control", "irl_jax_imitation", "irl_jax_imitation"]
    assert [module for _, module, _, _ in given] == modules * 2
    assert [task.seed for _, _, task, _ in given] == [3, 3, 3, 4, 4, 4]
    caches = [variables["JAX_COMPILATION_CACHE_DIR"] for *_, variables in given]
    assert len(set(caches[:3])) == 1 and caches[0] != caches[3]
    assert given[0][0] == "theirs"
    rows = [line for line in output.splitlines() if line.endswith("n = 2)")]
    assert len(rows) == 16
    assert number(r"irl_jax, full cache\s+cpu\s+([\d.]+) s", output) == 4.5  # 3 and 6
    found = re.findall(r"([\d.]+) times \(min ([\d.]+), max ([\d.]+)", output)
    assert found[0] == ("2.8", "1.6", "4") and found[2] == ("2", "1.333", "2.667")
    assert number(r"([\d.]+) return", output) == 480.5


def test_an_iteration_is_timed(tmp_path):
    arrays = tmp_path / "grid.npz"
    np.savez(arrays, **imitation_library.grid(1, 3, horizon=2))
    spent = irl_jax_imitation.plan(imitation_task.Task("plan", str(arrays), 2))
    assert spent["wall"] > 0 and spent["cpu"] > 0
    with np.load(arrays) as file:
        assert sum(spent["visits"]) == pytest.approx(2.0)
        assert len(spent["visits"]) == len(file["start"])


@pytest.mark.slow
def test_rounds_at_the_librarys_settings_and_seeds_are_timed(tmp_path, monkeypatch):
    small = {"environments": 2, "unroll": 8}
    for name, settings in imitation_task.SETTINGS.items():
        tiny = settings._replace(rows=4, minibatch=8, epochs=1, updates=2, **small)
        monkeypatch.setitem(imitation_task.SETTINGS, name, tiny)
    ours = replace(irl_jax_imitation.OURS, steps=32, minibatches=2, widths=(4,), **small)
    monkeypatch.setattr(irl_jax_imitation, "OURS", ours)
    rng = np.random.default_rng(0)
    path = tmp_path / "shown.npz"
    np.savez(
        path, context=rng.normal(size=(2, 5, 4)).astype(np.float32),
        action=rng.integers(0, 2, (2, 5)), final=np.zeros((2, 4)),
    )  # fmt: skip
    given = imitation_task.Task("", str(path), 3)
    for name in imitation_task.SETTINGS:
        rounds = irl_jax_imitation.rounds(replace(given, name=name))
        assert rounds["steps"] == 3 * 16 and rounds["cpu"] > 0
    learned = irl_jax_imitation.learn(replace(given, launched=1.0))
    assert learned["wall"] > 1e9 and 0 <= learned["return"] <= 500
    seeds = irl_jax_imitation.seeds(given)
    assert seeds["many"]["cpu"] > 0 and seeds["devices"] == jax.device_count()


def test_attention_in_chunks_grows_with_the_length():
    config = attention.Config(lengths=(512, 1024, 2048), chunk=64, longest=1024)
    first, second, third = attention.rows(config)
    assert second["in chunks"] < 2.2 * first["in chunks"]
    assert third["in chunks"] < 2.2 * second["in chunks"]
    assert second["all scores"] > 2.5 * first["all scores"] and "all scores" not in third
    assert second["in chunks"] < second["all scores"]
