from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.active_reward_modelling.config import CONFIG
from experiments.active_reward_modelling.report import DESIGNS, RANDOM
from experiments.active_reward_modelling.study import (
    SETTINGS,
    Pool,
    check,
    main,
    repeated,
    rounds,
    rules,
)
from experiments.valence.answers import AnswersConfig
from irl_jax.eval.ranking import MEASURES
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.types import InputError

P, K, F = 12, 8, 5
DIRECTION = np.array([2.0, -1.0, 1.0, 0.0, 0.0])


def planted(seed=0) -> Completions:
    """Answers whose gold reward is linear in their features."""
    features = np.random.default_rng(seed).standard_normal((P, K, F)).astype(np.float32)
    empty = np.zeros((P, K, 1), np.float32)
    text = [["an answer"] * K] * P
    token, mask = empty.astype(np.int32), empty > 0
    values = {"gold": features @ DIRECTION, "features": features}
    return Completions(text, token, mask, mask[..., 0], empty, empty, values)


def configure(path):
    return replace(
        CONFIG,
        run_dir=path,
        answers=AnswersConfig(model="tiny", prompts=P, completions=K),
        pool=120,
        batch=20,
        rounds=3,
        beta=3.0,
        samples=20,
        best_of=4,
        seeds=2,
        reward=EnsembleConfig(members=3, widths=(8,), steps=150, batch_size=32, lr=1e-2),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = configure(tmp_path_factory.mktemp("active") / "run")
    config.run_dir.mkdir()
    planted().save(config.run_dir / "responses.npz")
    main(config)
    return config, json.loads((config.run_dir / "summary.json").read_text())


def test_every_rule_learns_the_planted_reward(finished):
    _, summary = finished
    assert summary["labels"] == [20, 40, 60]
    names = set(rules(CONFIG))
    assert {(r["setting"], r["rule"]) for r in summary["rows"]} == {
        (setting, name) for setting in SETTINGS for name in names
    }
    for row in summary["rows"]:
        assert row["curve"]["pair accuracy"][-1][0] > 0.8, row["rule"]
        assert row["curve"]["rank correlation"][-1][0] > 0.7, row["rule"]


def test_rules_start_alike_and_areas_are_those_under_the_curves(finished):
    _, summary = finished
    for setting in SETTINGS:
        rows = {r["rule"]: r for r in summary["rows"] if r["setting"] == setting}
        for m in MEASURES:
            base = np.array(rows[RANDOM]["by_seed"][m])
            for name, row in rows.items():
                curve = np.array(row["by_seed"][m])
                np.testing.assert_array_equal(curve[:, 0], base[:, 0])
                area = np.trapezoid(curve, summary["labels"], axis=1) / 40
                assert row["area"][m][0] == pytest.approx(area.mean()), name
                difference = area - np.trapezoid(base, summary["labels"], axis=1) / 40
                assert row["against"][m][0] == pytest.approx(difference.mean())
                ahead = np.array(row["ahead"][m])
                np.testing.assert_allclose(ahead[:, 0], (curve - base).mean(0), atol=1e-12)
                assert (row["against"][m] == [0, 0, 0]) == (name == RANDOM)


def test_settings_are_compared_by_their_random_pairs(finished):
    _, summary = finished
    areas = [r["area"] for r in summary["rows"] if r["rule"] == RANDOM]
    for m in MEASURES:
        assert summary["across"][m][0] == pytest.approx(areas[1][m][0] - areas[0][m][0])


def test_close_calls_are_labelled_wrongly_and_clear_ones_rightly(finished):
    _, summary = finished
    for setting in SETTINGS:
        wrong = {r["rule"]: r["wrong"][0] for r in summary["rows"] if r["setting"] == setting}
        assert wrong["largest difference"] < wrong[RANDOM] < wrong["entropy"]


def test_the_report_names_every_rule_and_again_it_reports_what_is_there(finished, capsys):
    config, _ = finished
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in rules(CONFIG))
    main(config)
    assert "this run is complete" in capsys.readouterr().out


def test_no_pair_is_labelled_twice_and_a_label_is_read_only_where_chosen(finished):
    config, _ = finished
    rng = np.random.default_rng(0)
    features = jnp.asarray(planted().values["features"].reshape(P * K, F))
    pools = np.array([rng.choice(P * K, (120, 2)) for _ in range(2)])
    for rule in (RANDOM, DESIGNS[1]):
        chosen, rewards = rounds(config, rule, features, pools, pools)
        assert chosen.shape == (2, 60) and rewards.shape == (2, 3, P * K)
        assert all(len(set(row)) == 60 for row in chosen.tolist())
        spoilt = np.stack([np.where(np.isin(np.arange(120), c)[:, None], p, 0)
                           for p, c in zip(pools, chosen, strict=True)])  # fmt: skip
        again, same = rounds(config, rule, features, pools, spoilt)
        np.testing.assert_array_equal(again, chosen)
        np.testing.assert_array_equal(same, rewards)


def test_past_aware_design_turns_to_what_is_not_known():
    """Long copies in one direction, some of them labelled, and short ones in another."""
    change = jnp.array([[2.0, 0.0]] * 6 + [[0.0, 1.0]] * 2)
    labelled = jnp.arange(8) < 4
    pool = Pool(change, jnp.zeros((3, 8)), labelled, jax.random.key(0))
    named = rules(replace(CONFIG, batch=2))
    plain, aware, first_order = (named[name](pool).tolist() for name in DESIGNS)
    assert 4 in plain  # as if nothing were known
    assert aware == [6, 7]
    assert set(first_order) == {4, 5} or set(first_order) == {6, 7}  # of one kind


def test_repeated_rows_weigh_the_same():
    for count in (1, 3, 5, 8):
        index, weight = repeated(count, 8)
        assert len(index) == 8
        np.testing.assert_allclose(np.bincount(index, weight, count), 1.0, rtol=1e-6)


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"^pool: 8 rounds of 32 need 256 pairs or more, got 200"):
        check(replace(CONFIG, pool=200))
    with pytest.raises(InputError, match=r"^best_of: expected 1 to 32"):
        check(replace(CONFIG, best_of=33))
