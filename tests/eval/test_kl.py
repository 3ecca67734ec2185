import numpy as np
import pytest

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import completion_kl, sequence_kl, unmoved
from irl_jax.types import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_token_policy(rng):
    """π(a) π(b|a) over 3 x 3 completions, and a reference; completions in all 9 forms."""
    pi, ref = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3))
    pi_b, ref_b = rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(3), 3)
    a, b = np.divmod(np.arange(9), 3)
    logp = np.log(np.stack([pi[a], pi_b[a, b]], axis=1))
    ref_logp = np.log(np.stack([ref[a], ref_b[a, b]], axis=1))
    return logp, ref_logp, np.exp(logp.sum(1))


def test_expectation_over_all_completions_is_the_kl_of_completions(rng):
    logp, ref_logp, probability = two_token_policy(rng)
    exact = np.sum(probability * (logp.sum(1) - ref_logp.sum(1)))
    estimate = completion_kl(logp, ref_logp, np.ones((9, 2), bool))
    assert np.sum(probability * estimate) == pytest.approx(exact, abs=1e-12)


def test_sums_over_tokens_averages_over_completions_and_ignores_padding():
    logp = np.array([[-1.0, -2.0, np.nan], [-0.5, np.inf, 9.0]])
    ref = np.array([[-2.0, -2.5, 7.0], [-0.1, np.nan, -np.inf]])
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    assert completion_kl(logp, ref, mask) == pytest.approx([1.5, -0.4])
    assert sequence_kl(logp, ref, mask).estimate == pytest.approx(0.55)
    assert sequence_kl(logp, logp, mask) == (0.0, 0.0, 0.0)


def test_interval_resamples_prompts():
    prompt = np.repeat(np.arange(8), 50)
    logp = (prompt % 2)[:, None] * np.ones((1, 3)) - 5.0
    ref = np.full((400, 3), -5.0)
    mask = np.ones((400, 3), bool)
    clustered, naive = sequence_kl(logp, ref, mask, prompt), sequence_kl(logp, ref, mask)
    assert clustered.estimate == naive.estimate == 1.5
    assert clustered.high - clustered.low > 4 * (naive.high - naive.low)


def test_says_what_is_wrong():
    ones = np.ones((2, 3))
    with pytest.raises(InputError, match="shapes differ"):
        completion_kl(ones, ones[:, :2], ones)
    with pytest.raises(InputError, match="ref_logp: 1 of 6 not finite"):
        completion_kl(ones, np.where(np.eye(2, 3) * [1, 0, 0] > 0, -np.inf, 1.0), ones)


def test_a_policy_whose_kl_may_be_0_has_not_moved():
    for low, high in ((-0.3, 0.2), (0.0, 0.0), (-0.2, -0.1), (1e-5, 3e-5)):  # the last: rounding
        said = unmoved(Interval((low + high) / 2, low, high))
        assert "the policy has not moved" in said
        assert f"[{low:.3f}, {high:.3f}]" in said
    assert unmoved(Interval(0.5, 0.1, 0.9)) == ""


def test_of_two_policies_the_one_that_moved_is_told(rng):
    """Tokens of two symbols, drawn from a policy and scored under a near and a far one."""
    drawn = rng.random((400, 6)) < 0.5
    logp = np.full((400, 6), np.log(0.5))
    under = lambda p: np.where(drawn, np.log(p), np.log(1 - p))
    assert "has not moved" in unmoved(sequence_kl(logp, under(0.5 + 1e-6), np.ones((400, 6), bool)))
    assert unmoved(sequence_kl(logp, under(0.8), np.ones((400, 6), bool))) == ""
