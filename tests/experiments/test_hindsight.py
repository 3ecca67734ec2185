"""Hindsight on flipped bits: what is stored, how success is judged, and the whole in small."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.hindsight import study
from experiments.hindsight.config import CONFIG
from experiments.hindsight.runs import ARMS, CHANCE, FUTURE, NONE, RANDOM, relabels, success
from irl_jax.envs.exploration import bit_flip
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

BITS = 3
TINY = replace(
    CONFIG,
    seeds=2,
    bits=(2,),
    episodes=8,
    copies=2,
    learning=replace(
        CONFIG.learning, steps=24, environments=2, unroll=6, updates=2, batch_size=4, capacity=64,
        widths=(4,),
    ),
)  # fmt: skip


def first_wrong(observation, key):
    """Flips the first bit that is not as it should be: it never fails."""
    return (observation[:BITS] != observation[BITS:]).argmax(), jnp.zeros(())


def first(observation, key):
    """Flips the first bit: right if all others are right, and the first is not."""
    return jnp.zeros((), jnp.int32), jnp.zeros(())


def test_success_is_an_episode_that_ends_at_its_goal():
    """Also in its last step; where bits and goal begin equal, the first flip leads away."""
    env, key = bit_flip(BITS), jax.random.key(0)
    judge = jax.jit(success, static_argnums=(0, 1, 3))
    assert judge(env, first_wrong, key, 512) == 1.0
    share = float(judge(env, first, key, 512))
    # of 8 differences: only the first bit differs (one flip), or none does (two flips)
    assert share == pytest.approx(2 / 8, abs=4.5 * np.sqrt(0.25 * 0.75 / 512))


def test_what_is_stored_beside_what_was_done():
    """Random goals are hardly ever met, and rewards are those of the goals that stand there."""
    env = bit_flip(BITS)
    batch = unroll(
        env,
        first_wrong,
        begin(env, jax.random.key(0), 40),
        jax.random.key(1),
        steps=6,
        discount=0.9,
    )[1]
    made = relabels(BITS, 2)
    assert list(made) == list(ARMS) and made[NONE] is None
    for name, copies in ((FUTURE, 2), (RANDOM, 2)):
        rows = jax.jit(made[name])(batch, jax.random.key(2))
        assert len(rows.action) == 40 * 6 * copies
        taken = np.asarray(rows.mask[:, 0])
        after, reached = np.asarray(rows.final)[taken], np.asarray(rows.terminated)[taken]
        np.testing.assert_array_equal(rows.reward[taken, 0], np.where(reached, 0.0, -1.0))
        discount = np.where(reached, 0.0, np.float32(0.9))
        np.testing.assert_allclose(np.asarray(rows.discount)[taken, 0], discount)
        goal = np.asarray(rows.context)[taken, 0, BITS:]
        np.testing.assert_array_equal(after[:, BITS:], goal)
        if name == RANDOM:
            np.testing.assert_array_equal(reached, (after[:, :BITS] == goal).all(-1))
            error = 4.5 * np.sqrt(7 / 64 / taken.sum())
            assert reached.mean() == pytest.approx(1 / 8, abs=error)
            assert goal.mean() == pytest.approx(0.5, abs=0.1)
        else:
            assert reached.mean() > 0.4


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "ARMS", (NONE, RANDOM))
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    with np.load(config.run_dir / "measures.npz") as kept:
        share = kept["success"]
    assert share.shape == (1, 3, 2) and (share >= 0).all() and (share <= 1).all()
    rows = summary["success"]["2 bits"]
    assert list(rows) == [NONE, RANDOM, CHANCE]
    np.testing.assert_allclose([row[0] for row in rows.values()], share[0].mean(-1), rtol=1e-6)
    gain = summary["gain"]["2 bits"][RANDOM][0]
    assert gain == pytest.approx(share[0, 1].mean() - share[0, 0].mean(), abs=1e-6)
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 1
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"bits": ()}, "bits"),
        ({"bits": (40,)}, "bits: expected numbers from 1 to the unroll, 6"),
        ({"copies": 0}, "copies"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
