from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.quickstart import study
from experiments.quickstart.study import CONFIG, Config, PolicyConfig, PromptsConfig, main
from irl_jax.eval.intervals import Interval
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.tiny import TOPICS, topics
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rewards.vader import valence
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.train.compilations import count_compilations


def configure(run_dir: Path, model: Path) -> Config:
    """Sixteen updates of the tiny model on one device."""
    return replace(
        CONFIG,
        model=str(model),
        run_dir=str(run_dir),
        completions=8,
        max_new_tokens=10,
        prompts=PromptsConfig(train=16, held_out=16),
        reward=EnsembleConfig(members=2, steps=60, lr=3e-3),
        policy=PolicyConfig(steps=16, prompts=8, completions=8, lr=1e-2, save_every=2),
        mesh=MeshConfig(data=1),
    )


@pytest.fixture(scope="module")
def finished(tiny_model_dir, tmp_path_factory):
    """A finished run, and how often each function was compiled in it."""
    config = configure(tmp_path_factory.mktemp("quickstart") / "run", tiny_model_dir)
    jax.clear_caches()  # what earlier tests compiled is to be counted, too
    with count_compilations() as counts:
        main(config)
    return config, dict(counts)


def test_results(finished):
    config, _ = finished
    summary = json.loads((Path(config.run_dir) / "summary.json").read_text())
    for name in ("gold_before", "gold_after", "gold_gain", "pair_accuracy", "spearman", "kl"):
        estimate, low, high = summary[name]
        assert low <= estimate <= high, name
    difference = summary["gold_after"][0] - summary["gold_before"][0]
    assert summary["gold_gain"][0] == pytest.approx(difference)
    assert summary["kl"][1] > 1.0  # far: what the reward likes, not what gold does
    assert summary["pair_accuracy"][1] > 0.6
    rows = read_rows(Path(config.run_dir) / "metrics.jsonl")
    reward = [row["reward"] for row in rows if row["stage"] == "policy"]
    assert np.mean(reward[-4:]) > np.mean(reward[:4]) + 1.0  # 3.1 and 3.5 on two processors
    assert [row["step"] for row in rows if row["stage"] == "policy"] == list(range(1, 17))
    assert rows[0]["kl_behaviour"] == pytest.approx(0.0, abs=1e-6)  # sampler and trainer agree
    assert rows[0]["warnings"] == rows[0]["drift_gap"] == 0  # the monitor's first values
    drift = rows[-1]["drift_proxy"] - rows[-1]["drift_gold"]
    assert rows[-1]["drift_gap"] == pytest.approx(drift)


def test_one_compilation_a_step(finished):
    _, counts = finished
    assert counts["jit(step)"] == 1
    assert counts["jit(generate)"] == 2  # a batch draws by one key; what is measured, by prompts


def test_report_is_self_contained(finished):
    html = (Path(finished[0].run_dir) / "report.html").read_text()
    assert html.count("<svg") >= 3
    assert 'src="http' not in html
    assert 'href="http' not in html
    assert html.count('class="sample"') == finished[0].prompts.held_out
    assert "the policy has not moved" not in html


def test_again_reports_what_is_there(finished, capsys):
    config, _ = finished
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(config.run_dir).rglob("*.json*"))
    main(config)
    assert "this run is complete" in capsys.readouterr().out
    assert before == sorted(
        (p, p.stat().st_mtime_ns) for p in Path(config.run_dir).rglob("*.json*")
    )


def test_another_configuration_is_refused(finished):
    config, _ = finished
    with pytest.raises(InputError, match=r"policy\.lr was 0\.01, is 0\.5"):
        main(replace(config, policy=replace(config.policy, lr=0.5)))


def test_resumed_run_is_the_same(finished, tmp_path, monkeypatch):
    """Killed in the fourth update, it goes on to the same numbers."""
    config = replace(finished[0], run_dir=str(tmp_path / "run"))
    judged = 0

    def judge(texts):
        nonlocal judged
        judged += 1
        if judged == 4 + 4:  # batches of responses, and updates
            raise RuntimeError("killed")
        return valence(texts)

    monkeypatch.setattr(study, "valence", judge)
    with pytest.raises(RuntimeError, match="killed"):
        main(config)
    monkeypatch.undo()
    main(config)
    whole, resumed = (
        json.loads((Path(c.run_dir) / "summary.json").read_text()) for c in (finished[0], config)
    )
    for name in whole.keys() - {"seconds"}:
        assert whole[name] == resumed[name], name


@pytest.mark.slow
def test_of_a_frozen_policy_no_gain_is_claimed(tiny_model_dir, tmp_path, capsys):
    """The control that can fail: a learning rate of 1e-12, eight seeds.

    Each paired interval of 95 % excludes 0 by chance in one of twenty draws; that more than 3
    of 8 do has a probability of 0.0004, so that the bound holds whatever a machine draws.
    """
    excluded = 0
    for seed in range(8):
        config = replace(
            configure(tmp_path / f"{seed}", tiny_model_dir),
            seed=seed,
            completions=4,
            prompts=PromptsConfig(train=8, held_out=24),
            reward=EnsembleConfig(members=2, steps=20, lr=3e-3),
            policy=PolicyConfig(steps=1, prompts=8, completions=4, lr=1e-12, save_every=1),
        )
        main(config)
        assert "no gain, the policy has not moved" in capsys.readouterr().out
        assert "No gain, the policy has not moved" in (tmp_path / f"{seed}/report.html").read_text()
        summary = json.loads((tmp_path / f"{seed}/summary.json").read_text())
        excluded += Interval(*summary["gold_gain"]).excludes(0.0)
    assert excluded <= 3


def test_topics_are_distinct_and_seeded():
    count = len(TOPICS.split(";"))
    assert len(set(topics(count, 0))) == count
    assert topics(5, 0) == topics(count, 0)[:5] != topics(5, 1)
    with pytest.raises(InputError, match=f"only {count} topics"):
        topics(count + 1, 0)
