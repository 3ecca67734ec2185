"""Distillation against a small language whose completions are all written down, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.distillation import (
    distil,
    generalised_jsd,
    gkd,
    minillm,
    other_success,
    sdpo,
)
from irl_jax.losses.reduction import sequence_sum
from irl_jax.types import Group, InputError
from tests.oracles import distillation as oracles
from tests.oracles.language import Language, log_softmax

LANGUAGE = Language(3, 3)
OWN, TEACHER = LANGUAGE.draw(0), LANGUAGE.draw(1)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def group(policy):
    """Every completion as a group of one, sampled by a policy."""
    mask = jnp.asarray(LANGUAGE.mask)[:, None]
    absent = jnp.zeros(mask.shape[:2])
    return Group(None, None, mask, jnp.asarray(LANGUAGE.logp(policy))[:, None], absent, absent > 0)


def token_logp(logits):
    """log π of each token, f64[N, 1, T]."""
    table = jax.nn.log_softmax(logits)
    return jnp.where(LANGUAGE.mask, table[LANGUAGE.state, LANGUAGE.action], 0.0)[:, None]


def expected_gradient(loss, sampler):
    """∇ E[loss of a completion of the sampler] by the logits of the policy, at `OWN`."""
    chance, batch = jnp.asarray(LANGUAGE.chance(sampler)), group(sampler)

    @jax.jit
    def mean(logits):
        def one(i):
            row = jax.tree.map(lambda x: x[i][None], batch)
            return loss(logits, row, i).total

        return chance @ jax.vmap(one)(jnp.arange(len(chance)))

    return np.asarray(jax.jit(jax.grad(mean))(jnp.asarray(OWN)))


def divergences(logits, i, beta):
    """The divergence before each token of completion i, f64[1, 1, T]."""
    each = generalised_jsd(jnp.asarray(log_softmax(TEACHER)), jax.nn.log_softmax(logits), beta=beta)
    return each[jnp.asarray(LANGUAGE.state)[i]][None, None]


def teacher_logp(i):
    return token_logp(TEACHER)[i][None]


def reverse_kl():
    """∇ KL(π‖π_T) of whole completions, exactly."""
    return LANGUAGE.gradient(OWN, (LANGUAGE.logp(OWN) - LANGUAGE.logp(TEACHER)).sum(-1))


def held_kl():
    """∇ Σₜ KL(π‖π_T) of tokens, the prefixes as often as the policy comes to them."""
    p, gap = np.exp(log_softmax(OWN)), log_softmax(OWN) - log_softmax(TEACHER)
    slope = p * (gap - (p * gap).sum(-1, keepdims=True))
    visits, chance = np.zeros(len(OWN)), LANGUAGE.chance(OWN)
    for i, t in np.argwhere(LANGUAGE.mask):
        visits[LANGUAGE.state[i, t]] += chance[i]
    return visits[:, None] * slope


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_generalised_divergence_equals_oracle(beta):
    logp, other = log_softmax(OWN), log_softmax(TEACHER)
    expected = [oracles.generalised_jsd(p, q, beta) for p, q in zip(other, logp, strict=True)]
    np.testing.assert_allclose(generalised_jsd(other, logp, beta=beta), expected, rtol=1e-10)


def test_it_goes_from_one_kl_to_the_other():
    logp, other = log_softmax(OWN), log_softmax(TEACHER)
    forward, reverse = (generalised_jsd(other, logp, beta=beta) for beta in (0.0, 1.0))
    near = 1e-5
    low, high = (generalised_jsd(other, logp, beta=beta) for beta in (near, 1 - near))
    np.testing.assert_allclose(low / near, forward, rtol=1e-3)
    np.testing.assert_allclose(high / near, reverse, rtol=1e-3)
    assert np.abs(forward - reverse).max() > 0.05


def test_symbols_that_cannot_be_are_finite():
    sure = jnp.array([0.0, -jnp.inf])
    half = jnp.log(jnp.array([0.5, 0.5]))
    for beta in (0.0, 0.5):
        value, slope = jax.value_and_grad(lambda q, b=beta: generalised_jsd(sure, q, beta=b))(half)
        assert np.isfinite(value) and np.isfinite(slope).all()
    with pytest.raises(InputError, match=r"^beta: expected a number in"):
        generalised_jsd(half, half, beta=1.5)


def test_the_forward_kl_on_completions_of_the_teacher_is_likelihood_with_soft_labels():
    """Of whole completions: −E_T[∇ log π]."""
    loss = lambda x, row, i: gkd(divergences(x, i, 0.0), row, aggregate=sequence_sum)
    likelihood = -np.einsum("n,nsv->sv", LANGUAGE.chance(TEACHER), LANGUAGE.scores(OWN))
    got = expected_gradient(loss, TEACHER)
    np.testing.assert_allclose(got, likelihood, rtol=1e-9, atol=1e-12)


def test_on_policy_the_reverse_kl_of_tokens_is_not_that_of_completions():
    loss = lambda x, row, i: gkd(divergences(x, i, 1.0), row, aggregate=sequence_sum)
    got = expected_gradient(loss, OWN)
    np.testing.assert_allclose(got, held_kl(), rtol=1e-9, atol=1e-12)
    assert np.abs(got - reverse_kl()).max() > 0.1 * np.abs(got).max()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_on_policy_distillation_rests_at_the_teacher(beta):
    """And a step away from it does not."""

    def slope(x):
        each = lambda q: generalised_jsd(log_softmax(TEACHER), jax.nn.log_softmax(q), beta=beta)
        return jax.grad(lambda q: each(q).sum())(x)

    np.testing.assert_allclose(slope(TEACHER), 0.0, atol=1e-12)
    assert np.abs(slope(0.9 * TEACHER)).max() > 1e-3


@pytest.mark.parametrize(("discount", "exact"), [(1.0, reverse_kl), (0.0, held_kl)])
def test_sampled_tokens_have_the_gradient_of_a_reverse_kl(discount, exact):
    """Of whole completions with the rewards to go, of tokens with their own alone."""
    loss = lambda x, row, i: distil(
        token_logp(x)[i][None], row, teacher_logp=teacher_logp(i), discount=discount
    )
    np.testing.assert_allclose(expected_gradient(loss, OWN), exact(), rtol=1e-9, atol=1e-12)


def test_a_step_exactly_and_the_rest_by_policy_gradient_is_the_reverse_kl():
    """Without the lengths; with them it is another direction."""

    def loss(x, row, i, mean=False):
        steps = divergences(x, i, 1.0)
        return minillm(
            token_logp(x)[i][None], steps, row, teacher_logp=teacher_logp(i), clip=0.2, mean=mean
        )

    np.testing.assert_allclose(expected_gradient(loss, OWN), reverse_kl(), rtol=1e-9, atol=1e-12)
    by_length = expected_gradient(lambda *x: loss(*x, mean=True), OWN)
    assert np.abs(by_length - reverse_kl()).max() > 0.01


def test_a_step_exactly_varies_less_than_sampled():
    """The trace of the covariance of one completion's gradient, over all completions."""
    chance, scores = LANGUAGE.chance(OWN), LANGUAGE.token_scores(OWN)
    gap = LANGUAGE.logp(TEACHER) - LANGUAGE.logp(OWN)
    to_go = gap[:, ::-1].cumsum(-1)[:, ::-1]
    sampled = -np.einsum("nt,ntsv->nsv", to_go, scores)
    later = -np.einsum("nt,ntsv->nsv", to_go - gap, scores)
    p, wide = np.exp(log_softmax(OWN)), log_softmax(OWN) - log_softmax(TEACHER)
    slope = p * (wide - (p * wide).sum(-1, keepdims=True))
    step = np.zeros_like(sampled)
    for i, t in np.argwhere(LANGUAGE.mask):
        step[i, LANGUAGE.state[i, t]] += slope[LANGUAGE.state[i, t]]
    spread = lambda g: (
        chance @ (g**2).sum((-2, -1)) - (np.einsum("n,nsv->sv", chance, g) ** 2).sum()
    )
    assert spread(step + later) < 0.9 * spread(sampled)


def test_a_teacher_is_shown_another_right_answer():
    reward = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.0]])
    which, known = other_success(reward, threshold=1.0)
    assert known.tolist() == [[True] * 3, [True, False, True], [False] * 3]
    assert np.asarray(which)[np.asarray(known)].tolist() == [2, 0, 0, 1, 1]
    mask = jnp.ones([3, 3, 2], bool)
    batch = Group(None, None, mask, jnp.zeros([3, 3, 2]), reward, reward > 0)
    divergence = jnp.arange(18.0).reshape(3, 3, 2)
    assert float(sdpo(divergence, batch, shown=known).mean) == np.mean(
        [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    )
