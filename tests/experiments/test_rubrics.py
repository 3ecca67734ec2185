"""The world of `experiments.rubrics`, its measures, and a run of a few comparisons."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.rubrics import study
from experiments.rubrics.study import ARMS, BLANK, CONFIG, GIVEN, HALF, PERCEPTRONS, accuracy, main
from experiments.rubrics.world import OFF, ON, QUIET, World, chosen_first, make_world, responses
from experiments.rubrics.world import judge as judged
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.types import InputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = replace(
        CONFIG, run_dir=tmp_path_factory.mktemp("rubrics") / "run", dims=8, criteria=2, idle=2,
        pairs=(4, 200), held_out=400, error=0.0, seeds=2,
        perceptrons=EnsembleConfig(members=1, widths=(4,), steps=4, batch_size=8),
    )  # fmt: skip
    main(config)
    return config


def test_gold_is_the_sum_of_the_criteria_that_are_met():
    world = World(np.eye(2), np.array([0.0, 1.0]), np.array([2.0, -0.5]), np.array([1.0, -1.0]))
    x = np.array([[1.0, 0.0], [1.0, 2.0], [-1.0, 2.0], [-1.0, 1.0]])
    assert world.gold(x).tolist() == [2.0, 1.5, -0.5, 0.0]


def test_idle_criteria_count_for_nothing_and_the_author_knows_the_other_signs():
    world = make_world(np.random.default_rng(0), dims=6, criteria=3, idle=2)
    assert (world.weight[3:] == 0).all() and np.abs(world.weight[:3]).min() >= 0.5
    np.testing.assert_array_equal(world.guess[:3], np.sign(world.weight[:3]))
    assert set(np.abs(world.guess)) == {1.0}
    np.testing.assert_allclose(np.linalg.norm(world.direction, axis=1), 1.0)


def test_half_of_the_features_are_quiet_on_the_distribution_alone():
    rng = np.random.default_rng(0)
    world = make_world(rng, dims=6, criteria=1, idle=1)
    for place, quiet in ((ON, QUIET), (OFF, 1.0)):
        spread = responses(rng, world, 4000, place).std((0, 1))
        np.testing.assert_allclose(spread, [1, 1, 1, quiet, quiet, quiet], rtol=0.05)


def test_a_judge_errs_as_often_as_it_is_said_to_and_annotators_by_bradley_terry():
    rng = np.random.default_rng(0)
    met = np.tile([0.0, 1.0], (5000, 1))
    wrong = (judged(rng, met, 0.2) != met).mean(0)
    np.testing.assert_allclose(wrong, 0.2, atol=0.02)
    order = chosen_first(rng, np.tile([1.0, 0.0], (20000, 1)))
    assert (order[:, 0] == 0).mean() == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.01)
    assert (order.sum(1) == 1).all()


def test_accuracy_leaves_equal_gold_out_and_counts_ties_one_half():
    gold = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 0.0]])
    reward = np.array([[1.0, 0.0], [1.0, 0.0], [5.0, 0.0], [1.0, 1.0]])
    assert accuracy(reward, gold) == pytest.approx(1.5 / 3)


def test_weights_of_a_judge_that_never_errs_come_to_gold(finished):
    found = json.loads((finished.run_dir / "summary.json").read_text())
    for place in (ON, OFF):
        score = {arm: [v[0] for v in values] for arm, values in found["accuracy"][place].items()}
        assert list(score) == list(ARMS)
        assert score[BLANK][1] > 0.9 and score[BLANK][1] > score[HALF][1] + 0.05
        assert score[GIVEN][0] == score[GIVEN][1]


def test_figures_are_means_of_what_is_kept(finished):
    found = json.loads((finished.run_dir / "summary.json").read_text())
    with np.load(finished.run_dir / "accuracy.npz") as arrays:
        kept = arrays["accuracy"]
    assert kept.shape == (2, 2, len(ARMS), 2)
    at = {arm: j for j, arm in enumerate(ARMS)}
    for i, place in enumerate((ON, OFF)):
        for arm, values in found["accuracy"][place].items():
            np.testing.assert_allclose([v[0] for v in values], kept[:, i, at[arm]].mean(0))
        gap = kept[:, i, at[GIVEN]] - kept[:, i, at[PERCEPTRONS]]
        np.testing.assert_allclose([v[0] for v in found["ahead"][place][GIVEN]], gap.mean(0))
        assert PERCEPTRONS not in found["p"][place]
    page = (finished.run_dir / "report.html").read_text()
    assert "On the distribution" in page and "Off the distribution" in page


def test_again_it_reports_what_is_there_and_mistakes_are_told(finished, capsys, monkeypatch):
    monkeypatch.setattr(study, "one_world", None)
    main(finished)
    assert "this run is complete" in capsys.readouterr().out
    for change, says in (({"pairs": (4, 2)}, "pairs"), ({"seeds": 1}, "seeds")):
        with pytest.raises(InputError, match=says):
            replace(finished, **change)
