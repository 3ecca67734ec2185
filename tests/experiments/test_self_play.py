"""Self-play on Kuhn poker: how it is judged, the handicap, and the whole in small."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.self_play import study
from experiments.self_play.config import CONFIG
from experiments.self_play.decoder import BEGIN, BET, CARD, PASS, SETS
from experiments.self_play.runs import DECODED, EVEN, HELD, PLAIN, UNEVEN, Arm, handicapped, judged
from irl_jax.envs.games import kuhn_poker
from irl_jax.eval.games import levels
from irl_jax.recipes.self_play import NONE, ROLE
from irl_jax.types import InputError

TINY = replace(
    CONFIG,
    seeds=2,
    learning=replace(CONFIG.learning, updates=4, games=4, snapshots=2),
    decoder=replace(CONFIG.decoder, updates=4, games=4, snapshots=2),
    width=4,
    exact=replace(CONFIG.exact, updates=4, snapshots=2),
)


def test_a_handicap_moves_the_value_alone():
    policies = np.random.default_rng(0).dirichlet([1, 1], (2, 3, 12))
    off, value = judged(levels(kuhn_poker()), policies)
    moved, after = judged(levels(handicapped(kuhn_poker(), 1.5)), policies)
    assert off.shape == value.shape == (2, 3) and off.min() > 0.02
    np.testing.assert_allclose(moved, off, atol=1e-6)
    np.testing.assert_allclose(after, value + 1.5, atol=1e-6)


def test_rows_are_those_of_the_arms():
    """Seeds and snapshots that tell every arm, the end and the second half apart."""
    shape = (len(study.ARMS), 3, 5)
    off = np.arange(np.prod(shape)).reshape(shape) / 100 + np.array([0.0, 0.3, 0.1])[:, None]
    off[..., 2] += 7.0
    exact = np.zeros((2, 5)) + np.array([[1.0], [2.0]])
    found = {"exact_off": exact, "exact_value": -exact}
    for at, x in enumerate(off):
        found |= {f"off_{at}": x, f"value_{at}": -x}
    summary = study.summarise(replace(TINY, bound=0.6), found)
    of = lambda *arm: off[study.ARMS.index(Arm(*arm))]
    label = Arm(UNEVEN, HELD, ROLE).label
    assert summary["end"][UNEVEN][label][0] == pytest.approx(of(UNEVEN, HELD, ROLE)[:, -1].mean())
    assert summary["value"][EVEN][label][0] == pytest.approx(-of(EVEN, HELD, ROLE)[:, -1].mean())
    assert summary["late"][EVEN][label][0] == pytest.approx(of(EVEN, HELD, ROLE)[:, 2:].mean())
    assert summary["below"][EVEN] == {
        arm.label: (of(*arm)[:, -1] < 0.6).sum() for arm in study.ARMS if arm.game == EVEN
    }
    apart = summary["apart"][EVEN]
    ends = of(EVEN, PLAIN, NONE)[:, -1] - of(EVEN, HELD, NONE)[:, -1]
    assert apart[f"{PLAIN} − {HELD}, baseline: {NONE}"][0] == pytest.approx(ends.mean())
    late = (of(EVEN, HELD, NONE) - of(EVEN, HELD, ROLE))[:, 2:].mean()
    assert apart[f"{HELD}, baseline {NONE} − {ROLE}, second half"][0] == pytest.approx(late)
    assert list(summary["apart"][DECODED]) == [f"{PLAIN} − {HELD}, baseline: {ROLE}"]
    assert summary["exact"] == {PLAIN: [1.0, -1.0], HELD: [2.0, -2.0]}


def test_strings_say_what_a_player_sees():
    """Every information set has a string of its own: its card, and the moves before."""
    game = kuhn_poker()
    step, observe = jax.jit(game.step), jax.jit(game.observe)
    for cards in itertools.permutations(range(3), 2):
        for moves in ((), (PASS,), (BET,), (PASS, BET)):
            state = jnp.array([*cards, 0], jnp.int32)
            for move in moves:
                state = step(state, move).state
            string = SETS[int(observe(state))]
            known = (BEGIN, BEGIN, *moves)[-2:]
            assert string == (CARD + cards[len(moves) % 2], *known)
    assert len(set(SETS)) == 12


@pytest.mark.slow
def test_a_decoder_plays_in_small():
    off, value = study.measure(TINY, Arm(DECODED, HELD, ROLE))
    assert off.shape == value.shape == (2, 3) and (off[:, 0] != off[:, -1]).all()
    np.testing.assert_allclose(off[:, 0], 11 / 24, atol=0.1)  # almost uniform at the start


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys, monkeypatch):
    """Measures of two arms stand for all twelve: each is a program to compile."""
    two = {method: study.measure(TINY, Arm(EVEN, method, ROLE)) for method in (PLAIN, HELD)}
    monkeypatch.setattr(study, "measure", lambda config, arm: two[arm.method])
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    curve = np.array(summary["curve"][EVEN][Arm(EVEN, HELD, ROLE).label])
    assert curve.shape == (3, 3) and summary["games"][EVEN] == [0, 8, 16]
    np.testing.assert_allclose(curve[:, 0], two[HELD][0].mean(0), rtol=1e-6)
    assert curve[0, 0] == pytest.approx(11 / 24) and (two[HELD][0] != two[PLAIN][0]).any()
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 3
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"learning": replace(CONFIG.learning, beta=0.0)}, "learning.beta"),
        ({"width": 6}, "width: expected a multiple of 4, got 6"),
        ({"bound": -1.0}, "bound"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
