"""A judge's verdicts against a softmax in NumPy, and what swapping does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import forward, unembedding
from irl_jax.rewards.judge import comparison, verdict, verdict_log_odds
from irl_jax.types import InputError, Prompt
from tests.models.cases import CONFIG, SWITCHED, context, random_params
from tests.oracles import decoder as oracle

PLACES = (4, 11)  # ids of the two verdicts


@pytest.fixture(scope="module")
def judge():
    params = random_params(CONFIG)
    run = jax.jit(lambda prompt: verdict_log_odds(CONFIG, params, prompt, PLACES))
    return params, run


def test_log_odds_of_capped_logits():
    params, prompt = random_params(SWITCHED), context()
    found = jax.jit(lambda p: verdict_log_odds(SWITCHED, p, prompt, PLACES))(params)
    for row in range(3):
        alone = np.asarray(prompt.tokens)[row][np.asarray(prompt.mask)[row]]
        z = oracle.logits(SWITCHED, params, alone)[-1]
        np.testing.assert_allclose(found[row], z[PLACES[0]] - z[PLACES[1]], rtol=1e-4, atol=1e-5)


def test_log_odds_are_those_of_a_softmax_over_the_vocabulary(judge):
    params, run = judge
    prompt = context()
    found = run(prompt)
    kernel = np.asarray(unembedding(CONFIG, params), np.float64)
    for row in range(3):
        alone = np.asarray(prompt.tokens)[row][np.asarray(prompt.mask)[row]]
        hidden, _ = forward(CONFIG, params, jnp.asarray(alone[None]))
        z = np.asarray(hidden[0, -1], np.float64) @ kernel
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        want = np.log(p[PLACES[0]]) - np.log(p[PLACES[1]])
        np.testing.assert_allclose(found[row], want, rtol=1e-4, atol=1e-5)
    assert np.abs(found).min() > 1e-3


def test_swapping_the_responses_turns_the_preference_round_exactly(judge):
    _, run = judge
    given, swapped = run(context(seed=1)), run(context(seed=2))
    one, other = verdict(given, swapped), verdict(swapped, given)
    np.testing.assert_array_equal(one.preference, -other.preference)
    np.testing.assert_array_equal(one.bias, other.bias)
    np.testing.assert_array_equal(one.consistent, other.consistent)
    assert np.abs(one.preference).min() > 1e-3


def test_a_planted_bias_for_a_place_is_found_and_cancels():
    rng = np.random.default_rng(0)
    merit, place = rng.normal(size=50), rng.normal(2.0, 1.0, size=50)
    said = verdict(jnp.float32(merit + place), jnp.float32(-merit + place))
    np.testing.assert_allclose(said.preference, merit, atol=1e-6)
    np.testing.assert_allclose(said.bias, place, atol=1e-6)
    # Both orders name one response where merit outweighs the place.
    first, second = merit + place > 0, -merit + place > 0
    np.testing.assert_array_equal(said.consistent, first != second)
    assert 0 < said.consistent.sum() < 50


def test_a_comparison_shows_request_and_answers_in_order():
    text = comparison("{why}?", "because", "no {reason}")
    at = [text.index(part) for part in ("{why}?", "because", "no {reason}")]
    assert at == sorted(at)
    assert comparison("q", "x", "y") != comparison("q", "y", "x")


def test_shapes_are_checked():
    with pytest.raises(InputError, match=r"swapped: expected shape \[2\], got \[3\]"):
        verdict(jnp.zeros(2), jnp.zeros(3))


def test_padding_on_the_left_is_not_read(judge):
    _, run = judge
    prompt = context()
    other = jnp.where(prompt.mask, prompt.tokens, (prompt.tokens + 7) % CONFIG.vocab_size)
    np.testing.assert_array_equal(run(prompt), run(Prompt(other, prompt.mask)))
