"""The guessing game in words: how runs are judged, and the whole in small."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.text_games import study
from experiments.text_games.config import CONFIG
from experiments.text_games.runs import (
    ARMS,
    END,
    EPISODE,
    FOUND,
    GUESSES,
    MEASURES,
    RETURN,
    TURN,
    decoder_config,
    roll,
    sizes,
    words_of,
)
from irl_jax.envs.text import GuessingGame
from irl_jax.models.decoder import init_params
from irl_jax.types import InputError, Turns

TINY = replace(CONFIG, seeds=2, updates=4, parts=2, episodes=2, width=4, layers=1)


def test_the_lexicon_holds_all_that_is_said():
    words, game = words_of(3), GuessingGame(3, cost=0.1)
    told = [game.reset(1), *(game.step(text)[0] for text in ("1", "3", "to"))]
    assert told == ["guess from 1 to 3", "higher", "lower", "unknown"]
    for text in told:
        assert words.decode(words.first(text)) == text
    ids = [i for text in (*told, "2") for i in words.later(text)]
    assert END not in ids and max(ids) < decoder_config(replace(TINY, largest=3)).vocab_size


def test_an_episode_of_all_its_turns_has_room():
    """Of a decoder that never ends a turn, nor finds a number."""
    params = init_params(decoder_config(TINY), jax.random.key(0))
    group = roll(TINY, params, range(TINY.largest), jax.random.key(1))
    prompt, length = sizes(TINY)
    assert group.context.tokens.shape == (7, prompt) and group.action.shape == (7, 2, length)
    left = ~np.asarray(group.terminated)
    assert left.any() and (np.asarray(group.turns.mask).sum(-1)[left] == TINY.turns).all()
    paid = group.terminated - TINY.cost * group.turns.mask.sum(-1)
    np.testing.assert_allclose(group.reward, paid, rtol=1e-5)


def test_advantages_of_episodes_and_of_turns():
    """Two episodes of one number: found in two guesses, and with the second of three."""
    number = np.array([[[1, 1, 0, 2, 2, 0, 0, 0], [1, 1, 0, 2, 2, 0, 3, 3]]])
    reward = np.float32([[[-0.1, 0.9, 0.0], [-0.1, -0.1, 0.9]]])
    turns = Turns(number, reward)
    np.testing.assert_allclose(ARMS[EPISODE](turns)[0, :, 0], [0.1, -0.1], rtol=1e-5)
    assert np.ptp(ARMS[EPISODE](turns), axis=-1).max() == 0
    found = [[0.1, 0.1, 0, 0.1, 0.1, 0, 0, 0], [-0.1, -0.1, 0, -0.1, -0.1, 0, 0.9, 0.9]]
    np.testing.assert_allclose(ARMS[TURN](turns)[0], found, rtol=1e-5)


def test_rows_are_those_of_the_arms():
    """Seeds and parts that tell the arms, the end and the whole run apart."""
    values = np.arange(2 * 3 * 3 * 4).reshape(2, 3, 3, 4) / 10 + np.array([[[[0.3]]], [[[1.0]]]])
    values[..., -1] += 5.0
    found = {a: dict(zip(MEASURES, x, strict=True)) for a, x in zip(ARMS, values, strict=True)}
    summary = study.summarise(replace(TINY, seeds=3, parts=4, updates=8), found)
    row = summary["measured"][TURN]
    assert row[RETURN][0] == pytest.approx(values[1, 0, :, -1].mean())
    assert row[FOUND][0] == pytest.approx(values[1, 1, :, -1].mean())
    assert row[GUESSES][0] == pytest.approx(values[1, 2, :, -1].mean())
    assert row[f"{RETURN} {study.ALL}"][0] == pytest.approx(values[1, 0].mean())
    assert summary["least"][EPISODE] == values[0, 0, :, -1].min()
    for when, take in ((study.AT_END, lambda x: x[:, -1]), (study.ALL, lambda x: x.mean(1))):
        apart = (take(values[1, 0]) - take(values[0, 0])).mean()
        assert summary["apart"][f"{TURN}, {when}"][0] == pytest.approx(apart)
    assert list(summary["apart"]) == list(summary["p"]) and len(summary["apart"]) == 2
    played = 8 * 7 * 2
    assert summary["episodes"].tolist() == [played * x / 8 for x in (1, 3, 5, 7)]
    assert summary["best"] == pytest.approx(1 - 0.1 * 17 / 7)
    assert summary["curve"][TURN][GUESSES][2][0] == pytest.approx(values[1, 2, :, 2].mean())


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert set(summary["measured"]) == set(ARMS) and len(summary["curve"][TURN][RETURN]) == 2
    first = {arm: summary["curve"][arm][RETURN][0] for arm in ARMS}
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 2
    assert all(-0.5 <= x[0] <= 0.9 for x in first.values())
    (config.run_dir / "summary.json").unlink()
    (config.run_dir / "run_1_1.npz").unlink()
    capsys.readouterr()
    study.main(config)  # goes on with the run that is missing: the same bits
    again = json.loads((config.run_dir / "summary.json").read_text())
    assert again["measured"] == summary["measured"]
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"width": 6}, "width: expected a multiple of 4, got 6"),
        ({"updates": 5}, "updates: expected a multiple of parts, 2, got 5"),
        ({"episodes": 1}, "episodes"),
        ({"turns": 0}, "turns"),
        ({"largest": 1}, "largest"),
        ({"cost": -0.1}, "cost"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
