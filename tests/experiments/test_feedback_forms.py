from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.feedback_forms.attributes import ALONE, EQUAL, WEIGHED, AttributesConfig
from experiments.feedback_forms.config import CONFIG, LINEAR
from experiments.feedback_forms.feedback import FIRST, FORMS, Readings, first, learn
from experiments.feedback_forms.study import Condition, check, main, read
from experiments.feedback_forms.training_rate import RateConfig
from experiments.valence.answers import AnswersConfig
from experiments.valence.comparisons import predict
from irl_jax.eval.best_of_n import best_of_n
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.launch import splits
from irl_jax.rollout.session import Completions
from irl_jax.types import InputError

ORDINAL = "marks of 5, ordinal"
IMPRESSION = np.array([[0.1, 0.3, 5.0, 4.0, -2.0, -2.1, 9.0, 1.0]])
ANSWER = np.arange(10, 18)[None]


def readings(scale=1.0, offset=0.0) -> Readings:
    return Readings(
        ANSWER, IMPRESSION, np.array([scale]), np.array([offset]), np.array([0]), draw=0.5
    )


def test_what_is_said_follows_from_impressions():
    rows = {name: form.rows(readings()) for name, form in FORMS.items()}
    assert rows[FIRST].answer.tolist() == [[11, 10], [12, 13], [14, 15], [16, 17]]
    assert rows["rankings of 4, Plackett-Luce"].answer.tolist() == [
        [12, 13, 11, 10],
        [16, 17, 14, 15],
    ]
    assert rows["rankings of 8, all pairs"].answer.tolist() == [[16, 12, 13, 17, 11, 10, 14, 15]]
    tied = [1, 0, 1, 0]  # the first pair and the third are less than 0.5 apart
    assert rows["ties, Rao-Kupper"].label.tolist() == tied
    assert rows["ties dropped"].weight.tolist() == [0, 1, 0, 1]
    assert rows["ties tossed for"].answer.tolist() == [[10, 11], [12, 13], [14, 15], [16, 17]]
    assert rows["good or bad"].label.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    # quintiles of the eight: edges at 1.4, 2.8, 4.2, 5.6 places from the lowest
    assert rows[ORDINAL].label.tolist() == [1, 2, 4, 3, 0, 0, 4, 2]


def test_scale_and_offset_of_a_person_touch_numbers_alone():
    plain, other = readings(), readings(scale=2.0, offset=0.7)
    for name, form in FORMS.items():
        one, two = form.rows(plain), form.rows(other)
        np.testing.assert_array_equal(one.answer, two.answer)
        if form.answers > 1 or name == "numbers, own standard":
            np.testing.assert_allclose(one.label, two.label, atol=1e-12)
    assert FORMS[ORDINAL].rows(other).label.sum() > FORMS[ORDINAL].rows(plain).label.sum()


def test_comparisons_are_wrong_as_often_as_asked_and_noise_is_shared_by_all_conditions():
    gold = np.random.default_rng(0).normal(size=(60, 32))
    own = np.ones(60, bool)
    here = Condition("", 0.2, (FIRST,), 1920)
    seen = [read(CONFIG, gold, own, here, seed) for seed in range(8)]
    wrong = [
        np.diff(gold.ravel()[FORMS[FIRST].rows(r).answer])[:, 0] > 0 for r in seen
    ]  # 7,680 pairs: a standard error of 0.005
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.015)
    tied = [FORMS["ties, Davidson"].rows(r).label.mean() for r in seen]
    assert np.mean(tied) == pytest.approx(CONFIG.ties, abs=0.002)
    apart = read(CONFIG, gold, own, replace(here, differ=True), 0)
    np.testing.assert_array_equal(apart.impression, seen[0].impression)
    assert (seen[0].scale == 1).all() and (seen[0].offset == 0).all()
    assert len(np.unique(apart.scale)) == len(np.unique(apart.offset)) == CONFIG.people


@pytest.mark.parametrize("name", ["ties, Rao-Kupper", "ties, Davidson", "good or bad", ORDINAL])
def test_thresholds_start_where_the_loss_of_equal_rewards_is_least(name):
    rng = np.random.default_rng(1)
    form = FORMS[name]
    label = rng.integers(5 if name == ORDINAL else 2, size=200).astype(np.float32)
    label, weight = jnp.asarray(label), jnp.asarray(rng.random(200), jnp.float32)
    start = form.start(label, weight)
    equal = jnp.zeros([200, form.answers])
    slope = jax.jit(jax.grad(lambda own: form.loss(equal, label, weight, own).mean))
    np.testing.assert_allclose(slope(start), np.zeros_like(start), atol=2e-6)
    assert np.abs(slope(start + 0.3)).max() > 0.01


def test_the_first_judgements_count_the_same():
    rows = FORMS[ORDINAL].rows(readings())
    some = first(rows, 3)
    assert some.answer[:, 0].tolist() == [10, 11, 12, 10, 11, 12, 10, 11]
    assert some.weight.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    for name in ("answer", "label", "weight"):
        np.testing.assert_array_equal(getattr(first(rows, 8), name), getattr(rows, name))


def test_a_planted_reward_is_found_and_starts_at_nothing():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    rows = FORMS[FIRST].rows(
        replace(
            readings(),
            answer=np.arange(400).reshape(-1, 8),
            impression=features[:, :1].reshape(-1, 8),
        )
    )
    arrays = [
        np.asarray(x, kind)[None]
        for x, kind in ((rows.answer, "i4"), (rows.label, "f4"), (rows.weight, "f4"))
    ]
    keys = jax.random.split(jax.random.key(0), 1)
    fit = lambda lr: np.asarray(
        predict(
            learn(features, *arrays, keys, jnp.float32(lr), form=FIRST, config=LINEAR), features
        )
    )[0]
    assert np.corrcoef(fit(0.03), features[:, 0])[0, 1] > 0.97
    np.testing.assert_array_equal(fit(0.0), np.zeros(400))


@pytest.fixture(scope="module")
def finished(tiny_model_dir, tmp_path_factory):
    config = replace(
        CONFIG,
        run_dir=tmp_path_factory.mktemp("forms") / "run",
        answers=AnswersConfig(
            model=str(tiny_model_dir), prompts=16, completions=8, max_new_tokens=10,
            feature_layers=1, mesh=MeshConfig(data=1),
        ),
        forms=(FIRST, ORDINAL),
        error_rates=(0.2,),
        readings=(32, 96),
        decisions=16,
        people=4,
        best_of=4,
        seeds=3,
        lrs=(1e-2,),
        attributes=AttributesConfig(rated=40, comparisons=(4, 16)),
        rate=RateConfig(members=2, pairs=16, width=4),
    )  # fmt: skip
    main(config)
    return config, json.loads((config.run_dir / "summary.json").read_text())


@pytest.mark.slow
def test_every_condition_teaches_and_costs_what_it_says(finished):
    _, summary = finished
    rows = {(r["condition"], r["form"]): r for r in summary["rows"]}
    names = ("20% wrong", "people differ", "16 decisions", "32 read")
    assert set(rows) == {(n, form) for n in names for form in (FIRST, ORDINAL)}
    cost = lambda n, form: (rows[n, form]["answers"], rows[n, form]["decisions"])
    assert cost("20% wrong", FIRST) == (96, 48) and cost("20% wrong", ORDINAL) == (96, 96)
    assert cost("16 decisions", FIRST) == (32, 16) and cost("16 decisions", ORDINAL) == (16, 16)
    for form in (FIRST, ORDINAL):
        assert rows["20% wrong", form]["rank correlation"][0] > 0.2
    same = rows["people differ", FIRST]["by_seed"], rows["20% wrong", FIRST]["by_seed"]
    assert same[0] == same[1]  # comparisons do not tell how people use a scale


@pytest.mark.slow
def test_figures_are_means_over_seeds_and_ends_follow_from_gold(finished):
    config, summary = finished
    rows = {(r["condition"], r["form"]): r for r in summary["rows"]}
    for (condition, _), row in rows.items():
        for m in ("best of n", "rank correlation"):
            values, base = (np.array(r["by_seed"][m]) for r in (row, rows[condition, FIRST]))
            assert row[m][0] == pytest.approx(values.mean())
            assert row["against"][m][0] == pytest.approx((values - base).mean())
    gold = Completions.load(config.run_dir / "responses.npz").values["gold"]
    held = ~splits(np.arange(16), config.held_out, 3)
    best = np.mean([best_of_n(gold[own], gold[own], 4).mean() for own in held])
    assert summary["ends"]["by gold itself"][0] == pytest.approx(best)


@pytest.mark.slow
def test_attributes_their_costs_and_the_count_of_models(finished):
    config, summary = finished
    rows = {(r["comparisons"], r["from"]): r for r in summary["attributes"]["rows"]}
    assert {n for n, _ in rows} == {4, 16}
    assert [rows[4, way]["decisions"] for way in (ALONE, WEIGHED, EQUAL)] == [4, 164, 160]
    assert rows[4, EQUAL]["by_seed"] == rows[16, EQUAL]["by_seed"]  # it reads no comparison
    assert all(-1 <= r <= 1 for r in summary["attributes"]["weights"].values())
    assert all(r["parameters"] > 1 for r in summary["models a minute"])
    assert all(r["a minute"] > 0 for r in summary["models a minute"])
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in (FIRST, ORDINAL, ALONE, WEIGHED, EQUAL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error_rates": (0.2, 0.5)}, r"^error_rates: give shares in \[0, 0.5\)"),
        ({"error_rate": 0.25}, r"^error_rates: .* lacks error_rate 0.25"),
        ({"forms": ("songs",)}, r"^forms: give 'pairs, Bradley-Terry' and then of"),
        ({"readings": (240, 1921)}, r"^readings: give numbers from 8 to 1920"),
        ({"decisions": 961}, r"^decisions: expected 16 to 960"),
        ({"best_of": 33}, r"^best_of: expected 1 to 32"),
        ({"attributes": AttributesConfig(rated=0)}, r"^attributes.rated: expected 2 to 1920"),
        ({"attributes": AttributesConfig(comparisons=())}, r"^attributes.comparisons: with 240"),
    ],
)
def test_says_what_is_wrong(change, message):
    with pytest.raises(InputError, match=message):
        check(replace(CONFIG, **change))
