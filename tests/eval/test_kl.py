import numpy as np
import pytest

from irl_jax.eval.kl import completion_kl, sequence_kl
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
