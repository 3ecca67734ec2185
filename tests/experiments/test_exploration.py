"""Exploration of DeepSea: what learning does in one episode, and the whole in small."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.exploration.config import CONFIG
from experiments.exploration.report import FOUND, SOLVED
from experiments.exploration.runs import Arm, arms, runs
from experiments.exploration.study import main
from irl_jax.types import InputError

TINY = replace(CONFIG, seeds=2, sizes=(4,), episodes=120, window=5)


def test_dithering_alone_finds_the_treasure_as_often_as_chance_does():
    """With ε = 1 each of 2^N ways is as likely; with bonuses it is found again and again."""
    size, count = 4, 8
    arm = Arm(*(jnp.repeat(jnp.array(x), count) for x in (1.0, 0.0, 0.0, False)))
    keys = jax.random.split(jax.random.key(0), count)
    found = np.asarray(runs(arm, keys, size=size, episodes=500))
    p = 2.0**-size
    assert found.mean() == pytest.approx(p, abs=4.5 * np.sqrt(p * (1 - p) / found.size))
    arm = Arm(*(jnp.repeat(jnp.array(x), count) for x in (0.0, 0.1, 0.0, False)))
    counted = np.asarray(runs(arm, keys, size=size, episodes=500))
    assert counted.any(1).all() and counted[:, -50:].mean() > 0.9
    arm = Arm(*(jnp.repeat(jnp.array(x), count) for x in (0.0, 0.0, 0.1, False)))
    distilled = np.asarray(runs(arm, keys, size=size, episodes=500))
    assert distilled.any(1).all() and distilled[:, -50:].mean() > 0.9


def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    with np.load(config.run_dir / "measures.npz") as kept:
        found = {name: kept[name] for name in kept}
    names = list(arms(config))
    assert found[FOUND].shape == found[SOLVED].shape == (1, len(names), 2)
    assert (found[FOUND] >= 1).all() and (found[SOLVED] <= 120).all()
    for row, name in enumerate(names):
        measured = summary["measured"]["4 rows"][name]
        assert measured[SOLVED][0] == pytest.approx(found[SOLVED][0, row].mean())
        assert measured["runs that solved it"] == (found[SOLVED][0, row] < 120).sum()
    assert len(summary["fewer"]["4 rows"]) == len(names) - 1
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 1
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"sizes": ()}, "sizes"),
        ({"window": 200}, "window"),
        ({"scale": 0.0}, "scale"),
        ({"dithering": 2.0}, "dithering"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
