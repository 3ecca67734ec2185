from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from experiments.demonstration_rewards.demonstrations import draw, matched
from experiments.demonstration_rewards.study import (
    CONFIG,
    LOGISTIC,
    PREFERENCES,
    check,
    in_order,
    main,
    measure,
    objectives,
    told_apart,
)
from experiments.valence.answers import AnswersConfig
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.recipes.launch import splits
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.types import InputError

QUICK = EnsembleConfig(members=2, widths=(8,), steps=120, batch_size=64, lr=1e-2)


@pytest.fixture(scope="module")
def finished(tiny_model_dir, tmp_path_factory):
    config = replace(
        CONFIG,
        run_dir=tmp_path_factory.mktemp("demonstrations") / "run",
        answers=AnswersConfig(
            model=str(tiny_model_dir),
            prompts=24,
            completions=12,
            max_new_tokens=12,
            batch_size=8,
            feature_layers=1,
        ),
        own_samples=4,
        labels=(2,),
        n=4,
        seeds=3,
        reward=QUICK,
    )
    main(config)
    return config


def test_every_objective_learns_what_was_demonstrated(finished):
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    learned = objectives(finished)
    assert len(learned) == 7
    chance = summary["results"]["chance"]
    assert chance == {"spearman": [0, 0, 0], "accuracy": [0.5] * 3, "gain": chance["gain"]}
    assert chance["gain"][0] == pytest.approx(0, abs=1e-12)
    for name in learned:
        rank, low, high = summary["results"][name]["spearman"]
        assert rank == pytest.approx(np.mean(summary["by_seed"][name]["spearman"]))
        assert low <= rank <= high
        assert rank > 0.4, name
        assert summary["results"][name]["accuracy"][0] > 0.65, name
        assert 0 < summary["results"][name]["gain"][0] < summary["oracle_gain"][0], name
    assert np.mean(summary["gold_demonstrations"]) > np.mean(summary["gold_own"]) + 0.1
    html = (finished.run_dir / "report.html").read_text()
    assert all(name in html for name in learned)


def test_figures_are_those_of_the_responses(finished):
    """The baseline of length, computed again response by response."""
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    responses = Completions.load(finished.run_dir / "responses.npz")
    train = splits(np.arange(24), 0.25, 3)
    for s, inside in enumerate(train):
        ranks, gains, right, pairs = [], [], 0.0, 0
        for p in np.flatnonzero(~inside):
            gold, length = responses.values["gold"][p], responses.mask[p].sum(-1)
            if np.ptp(gold) > 0:
                constant = np.ptp(length) == 0
                ranks.append(0 if constant else scipy.stats.spearmanr(length, gold).statistic)
            for i in range(12):
                for j in range(i):
                    if gold[i] != gold[j]:
                        ahead = (length[i] - length[j]) * (gold[i] - gold[j])
                        right += 0.5 * (1 + np.sign(ahead))
                        pairs += 1
            rng = np.random.default_rng(p)
            best = []
            for _ in range(4000):
                of = rng.choice(12, 4, replace=False)
                best.append(gold[of[np.argmax(length[of] + 0.1 * rng.random(4))]])
            gains.append(np.mean(best) - gold.mean())
        longer = {k: v[s] for k, v in summary["by_seed"]["longer"].items()}
        assert longer["spearman"] == pytest.approx(np.mean(ranks))
        assert longer["accuracy"] == pytest.approx(right / pairs)
        assert longer["gain"] == pytest.approx(np.mean(gains), abs=0.02)


def test_again_it_reports_what_is_there(finished, capsys):
    main(finished)
    said = capsys.readouterr().out
    assert "this run is complete" in said
    assert LOGISTIC in said and PREFERENCES in said


def test_draws_are_of_training_prompts_and_apart():
    gold = np.random.default_rng(0).normal(size=(20, 10))
    train = splits(np.arange(20), 0.25, 4)
    draws = draw(gold, train, demonstrations=2, own=5, temperature=0.5)
    assert draws.demonstration.shape == (4, 15, 2)
    assert draws.own.shape == (4, 15, 5)
    assert draws.compared.shape == (4, 15, 2, 2)
    for s, inside in enumerate(train):
        for field in (draws.demonstration, draws.own, draws.compared):
            prompt = field[s].reshape(15, -1) // 10
            assert (prompt == np.flatnonzero(inside)[:, None]).all()
        for demonstrated, own in zip(draws.demonstration[s], draws.own[s], strict=True):
            assert len({*demonstrated, *own}) == 7
        assert (draws.compared[s][..., 0] != draws.compared[s][..., 1]).all()
    pairs = matched(draws)
    assert pairs.shape == (4, 15, 5, 2)
    assert (pairs[..., 1] == draws.own).all()
    assert (pairs[:, :, :2, 0] == draws.demonstration).all()


def test_demonstrators_and_annotators_choose_by_the_exponential_of_gold():
    gold = np.tile(np.array([0.0, 0.2, 0.5, 1.0]), (4000, 1))
    train = np.ones((1, 4000), bool)
    draws = draw(gold, train, demonstrations=1, own=3, temperature=0.5)
    share = np.bincount(draws.demonstration.reshape(-1) % 4, minlength=4) / 4000
    expected = np.exp(gold[0] / 0.5)
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.03)
    first, second = (draws.compared.reshape(-1, 2) % 4).T
    outer = {*map(tuple, np.sort([first, second], 0).T)}
    assert outer == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    ends = (np.minimum(first, second) == 0) & (np.maximum(first, second) == 3)
    assert np.mean(first[ends] == 3) == pytest.approx(1 / (1 + np.exp(-1 / 0.5)), abs=0.04)
    cold = draw(gold, train, demonstrations=2, own=2, temperature=1e-3)
    assert (np.sort(cold.demonstration % 4) == [2, 3]).all()
    assert (cold.compared[..., 0] % 4 > cold.compared[..., 1] % 4).all()


def test_a_planted_reward_is_found_on_prompts_never_seen():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 16, 6)).astype(np.float32)
    gold = features @ np.array([1.0, -0.5, 0.0, 0.0, 0.0, 0.0])
    train = splits(np.arange(40), 0.25, 2)
    draws = draw(gold, train, demonstrations=2, own=6, temperature=0.3)
    for reward in (
        told_apart(features, draws, binary_cross_entropy, QUICK),
        in_order(features, matched(draws), QUICK),
    ):
        measured = measure(reward, gold, train, 4)
        assert min(measured["spearman"]) > 0.75
        assert min(measured["accuracy"]) > 0.75


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"^temperature: expected a number in \(0.0"),
        ({"own_samples": 25}, r"^own_samples: with the demonstrations they are 33 of 32"),
        ({"answers": AnswersConfig(prompts=4)}, r"^answers.prompts: 4 are too few"),
        ({"n": 33}, r"^n: expected 1 to 32, got 33"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        check(replace(CONFIG, **changes))
