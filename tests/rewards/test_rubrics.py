"""Rubrics: files, the aggregate against sums in NumPy, weights learned from comparisons."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from irl_jax.rewards.reasoning_judge import check_template
from irl_jax.rewards.rubrics import (
    QUESTION,
    Criterion,
    explicit_aggregate,
    learned_weights,
    read_rubric,
)
from irl_jax.types import InputError


def test_the_aggregate_is_the_sum_over_what_can_be_reached():
    rng = np.random.default_rng(0)
    judged, weights = rng.random((5, 3, 4)), np.array([2.0, -0.5, 1.0, 0.25])
    expected = np.zeros((5, 3))
    for place in np.ndindex(5, 3):
        total = sum(w * c for w, c in zip(weights, judged[place], strict=True))
        expected[place] = total / (2.0 + 1.0 + 0.25)
    found = explicit_aggregate(jnp.float32(judged), jnp.float32(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    every = explicit_aggregate(jnp.float32(weights > 0), jnp.float32(weights))
    assert float(every) == pytest.approx(1.0)


def test_the_scale_of_weights_does_not_matter_and_their_number_must_fit():
    judged = jnp.array([[0.2, 0.9], [1.0, 0.0]])
    one, other = (explicit_aggregate(judged, jnp.array(w)) for w in ([1.0, 3.0], [2.0, 6.0]))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(one, [(0.2 + 2.7) / 4, 0.25], rtol=1e-6)
    with pytest.raises(InputError, match=r"weights: expected shape \[2\], got \[3\]"):
        explicit_aggregate(judged, jnp.ones(3))


def test_learned_weights_are_the_mode_of_a_logistic_regression_with_the_rubric_as_its_prior():
    rng = np.random.default_rng(1)
    judged, truth = rng.random((400, 2, 3)), np.array([4.0, -3.0, 0.0])
    ahead = (judged[:, 0] - judged[:, 1]) @ truth
    wrong = rng.random(400) > 1 / (1 + np.exp(-ahead))
    judged[wrong] = judged[wrong][:, ::-1]
    weight = rng.choice([0.0, 1.0, 2.0], 400)
    judged[weight == 0] = np.nan
    prior, strength = np.array([1.0, 1.0, 2.0]), 3.0
    rubric = [Criterion(f"t{k}", float(w), f"n{k}") for k, w in enumerate(prior)]
    found = learned_weights(jnp.float32(judged), jnp.float32(weight), rubric, strength=strength)

    seen = weight > 0
    z = judged[seen, 0] - judged[seen, 1]

    def loss(v: np.ndarray) -> float:
        fit = weight[seen] @ np.logaddexp(0.0, -z @ v)
        return fit + strength / 2 * ((v - prior) ** 2).sum()

    expected = scipy.optimize.minimize(loss, np.zeros(3), tol=1e-10).x
    np.testing.assert_allclose([c.weight for c in found], expected, atol=2e-3)
    assert [(c.text, c.name) for c in found] == [("t0", "n0"), ("t1", "n1"), ("t2", "n2")]
    assert found[1].weight < 0 < found[0].weight  # the first guess of a sign was wrong


def test_without_comparisons_the_rubric_stays():
    rubric = [Criterion("a", 2.0, "a"), Criterion("b", -1.0, "b")]
    found = learned_weights(jnp.full((3, 2, 2), jnp.nan), jnp.zeros(3), rubric, strength=0.5)
    assert found == rubric
    with pytest.raises(InputError, match="strength"):
        learned_weights(jnp.zeros((3, 2, 2)), jnp.ones(3), rubric, strength=0.0)
    with pytest.raises(InputError, match=r"judged: expected shape \[_, 2, 2\], got \[3, 2, 3\]"):
        learned_weights(jnp.zeros((3, 2, 3)), jnp.ones(3), rubric, strength=1.0)


def test_a_file_and_its_defaults(tmp_path):
    path = tmp_path / "rubric.json"
    path.write_text(json.dumps([{"text": "Polite.", "weight": 2, "name": "p"}, {"text": "Short."}]))
    assert read_rubric(path) == [
        Criterion("Polite.", 2.0, "p"), Criterion("Short.", 1.0, "criterion 2")
    ]  # fmt: skip
    check_template(QUESTION, ("request", "response", "criterion"), "question")


WRONG = {
    "[": "broken JSON",
    "[]": "expected a list of criteria, .* found an empty list",
    '{"text": "a"}': "expected a list of criteria, .* found an object",
    '["a"]': "criterion 1: is a string; expected an object with `text` and `weight`",
    '[{"weight": 1}]': "criterion 1: no field `text`",
    '[{"text": " "}]': "criterion 1: `text` is empty",
    '[{"text": "a"}, {"text": 3}]': "criterion 2: `text` is 3; expected a string",
    '[{"text": "a", "wieght": 3}]': "criterion 1: unknown field `wieght`; it has text, weight and",
    '[{"text": "a", "weight": "2"}]': "criterion 1: `weight` is '2'; expected a finite number",
    '[{"text": "a", "weight": NaN}]': "criterion 1: `weight` is nan; expected a finite number",
    '[{"text": "a", "weight": 0}]': "criterion 1: `weight` is 0; leave the criterion out",
    '[{"text": "a", "weight": -1}]': "no criterion has a weight above 0; give one that should hold",
    '[{"text": "a", "name": "x"}, {"text": "b", "name": "x"}]': "two criteria are named 'x'",
}


@pytest.mark.parametrize(("content", "says"), WRONG.items())
def test_what_is_wrong_with_a_file_is_named(content, says, tmp_path):
    path = tmp_path / "rubric.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"rubric\.json: {says}"):
        read_rubric(path)
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        read_rubric(tmp_path / "nowhere.json")
