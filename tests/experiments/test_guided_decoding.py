from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.guided_decoding.config import CONFIG
from experiments.guided_decoding.report import against_best
from experiments.guided_decoding.study import (
    ARGS,
    BELLMAN,
    BEST,
    BLOCKS,
    FUDGE,
    GREEDY,
    MEASURES,
    conclusion,
    main,
    settings,
    summarise,
    write_report,
)
from experiments.sandbox.task import SandboxConfig
from irl_jax.eval.best_of_n import kl_bound
from irl_jax.eval.intervals import p_value
from irl_jax.files import as_json
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

TINY = replace(
    CONFIG,
    seeds=2,
    world=SandboxConfig(
        vocabulary=8, max_new_tokens=8, width=8, layers=1, demonstrations=512, steps=80,
        batch_size=32,
    ),
    pairs=256,
    rollouts=1024,
    steps=150,
    batch_size=64,
    lr=1e-2,
    prompts=24,
    completions=4,
    weights=(0.0, 3.0),
    top_k=0,
    candidates=(1, 4),
    draws=16,
    ns=(1, 4),
    reward=EnsembleConfig(members=2, widths=(16,), steps=150, batch_size=64, lr=1e-2),
)  # fmt: skip
METHODS = (FUDGE, BELLMAN, ARGS, GREEDY, BLOCKS, BEST)


def made_up(seed):
    """Points as a world leaves them: the proxy prefers the first setting of every method."""
    rng = np.random.default_rng(seed)
    return {
        name: [
            {
                "gold": 0.1 * i + rng.normal(0, 0.01),
                "proxy": -float(i),
                "kl": 1.0 + i,
                "tokens": 7.0,
            }
            for i, _ in enumerate(settings(CONFIG, name))
        ]
        for name in METHODS
    }


def test_settings_are_held_against_best_of_n_of_no_less_compute(tmp_path):
    """Read 7 tokens: best-of-4 reads 8, the least that is enough; settings by the proxy."""
    by_seed = [made_up(seed) for seed in range(5)]
    of_methods = {name: settings(CONFIG, name) for name in METHODS}
    found = against_best(of_methods, CONFIG.ns, by_seed)
    named = [(name, setting) for name in METHODS[:-1] for setting in settings(CONFIG, name)]
    assert [(row["method"], row["setting"]) for row in found] == named
    for row in found:
        i = settings(CONFIG, row["method"]).index(row["setting"])
        assert row["n"] == 4
        assert row["chosen"] == (i == 0)
        differences = [w[row["method"]][i]["gold"] - w[BEST][2]["gold"] for w in by_seed]
        assert row["gold"].estimate == pytest.approx(np.mean(differences))
        assert row["p"] >= p_value(differences)
    with RunDirectory(tmp_path / "run", {}) as run:
        summary = as_json(summarise(CONFIG, by_seed, {"all": 1.0}))
        write_report(run, summary)
        html = run.report.read_text()
    assert html.count("<figure>") == 2 and "best-of-4" in html
    assert "w = 3" in conclusion(summary, run.report)


@pytest.mark.slow
def test_rewards_of_prefixes_steer_and_a_weight_of_zero_does_not(tmp_path):
    config = replace(TINY, run_dir=tmp_path / "run")
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    points = summary["points"]
    assert list(points) == list(METHODS)
    for world in summary["by_seed"]:
        for name in (FUDGE, BELLMAN, ARGS):
            none, strong = world[name]
            assert none["kl"] == pytest.approx(0, abs=1e-3)
            assert strong["kl"] > 0.3
            assert strong["proxy"] > none["proxy"] + 0.2
        assert world[BLOCKS][0]["kl"] == 0  # one candidate: nothing is chosen
        assert world[BLOCKS][1]["proxy"] > world[BLOCKS][0]["proxy"] + 0.2
        one, four = world[BEST]
        assert one["kl"] == pytest.approx(0, abs=1e-9)
        assert 0 < four["kl"] <= kl_bound(4) + 1e-6
        assert four["proxy"] > one["proxy"] + 0.2
        assert world[FUDGE][0]["tokens"] == 1 + 8 + 1  # policy, 8 candidates, the one taken
    for name, found in points.items():
        for i, point in enumerate(found):
            for m in MEASURES:
                values = [world[name][i][m] for world in summary["by_seed"]]
                assert point[m][0] == pytest.approx(np.mean(values))
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "seeds: an interval needs at least 2 worlds, got 1"),
        ({"ns": (1, 32)}, "ns: 32 is more than the 16 draws of a prompt"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        main(replace(TINY, run_dir=tmp_path / "run", **changes))
