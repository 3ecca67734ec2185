import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.direct import dpo, ipo
from irl_jax.losses.direct_variants import (
    apo_down,
    apo_zero,
    dpop,
    nca,
    on_policy_weight,
    r_dpo,
    rpo,
    sppo,
    tdpo,
    wpo,
    xpo,
)
from irl_jax.losses.divergence import JENSEN_SHANNON, KL, PEARSON, REVERSE_KL, SQUARED_HELLINGER
from irl_jax.losses.link import hinge
from irl_jax.losses.reference_free import alphapo, cpo, orpo, simpo
from irl_jax.losses.scores import (
    alpha_tilt,
    f_divergence_score,
    jensen_shannon_tilt,
    ld_dpo_score,
    log_ratio,
    mean_log_ratio,
)
from irl_jax.losses.unpaired import each_side, kto
from irl_jax.types import InputError
from tests.losses.test_direct import BATCH, LOGP, MASK, REF
from tests.oracles import direct as oracles

BETA = 0.7


def mean(loss):
    return float(loss.mean)


@pytest.mark.parametrize(
    ("variant", "plain"),
    [
        (lambda: r_dpo(LOGP, REF, BATCH, beta=BETA, alpha=0.0), "dpo"),
        (lambda: dpop(LOGP, REF, BATCH, beta=BETA, lam=0.0), "dpo"),
        (lambda: rpo(LOGP, REF, BATCH, beta=BETA, alpha=0.0, likelihood=log_ratio), "dpo"),
        (lambda: dpo(LOGP, REF, BATCH, beta=BETA, score=ld_dpo_score(1.0)), "dpo"),
        (
            lambda: dpo(
                LOGP, REF, BATCH, beta=BETA, score=f_divergence_score(alpha_tilt(0), log_ratio)
            ),
            "dpo",
        ),
        (lambda: tdpo(LOGP, REF, REF, BATCH, beta=BETA, alpha=0.0), "dpo"),
        (lambda: xpo(LOGP, REF, BATCH, beta=BETA, alpha=0.0, explore=MASK[..., 0]), "dpo"),
        (lambda: wpo(LOGP, REF, BATCH, beta=BETA, share=jnp.ones([2, 2])), "dpo"),
        (lambda: cpo(LOGP, BATCH, beta=BETA, alpha=0.0), "uniform"),
        (lambda: alphapo(LOGP, BATCH, beta=BETA, gamma=0.0, alpha=0.0), "uniform, mean"),
        (lambda: simpo(LOGP, BATCH, beta=BETA, gamma=0.0), "uniform, mean"),
    ],
)
def test_at_its_neutral_value_a_variant_is_dpo(variant, plain):
    expected = {
        "dpo": lambda: dpo(LOGP, REF, BATCH, beta=BETA),
        "uniform": lambda: dpo(LOGP, 0 * REF, BATCH, beta=BETA),
        "uniform, mean": lambda: dpo(LOGP, 0 * REF, BATCH, beta=BETA, score=mean_log_ratio),
    }[plain]
    assert mean(variant()) == pytest.approx(mean(expected()), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (lambda logp: nca(logp, logp, BATCH, beta=BETA), 2 * np.log(2)),
        (lambda logp: apo_down(logp, logp, BATCH, beta=BETA), 1.0),
        (lambda logp: apo_zero(logp, logp, BATCH, beta=BETA), 1.0),
        (lambda logp: ipo(logp, logp, BATCH, tau=0.5), 1.0),
        (lambda logp: dpo(logp, logp, BATCH, beta=BETA, link=hinge), 1.0),
        (lambda logp: dpop(logp, logp, BATCH, beta=BETA, lam=5.0), np.log(2)),
    ],
)
def test_at_the_reference(loss, value):
    assert mean(loss(LOGP)) == pytest.approx(value, rel=1e-6)


def test_apo_zero_is_kto_of_each_side_without_a_divergence():
    """Twice: a sum over the two responses of a pair, not their mean."""
    sides = each_side(kto)(LOGP, REF, BATCH, beta=BETA, kl=0.0, good=1.0, bad=1.0)
    assert mean(apo_zero(LOGP, REF, BATCH, beta=BETA)) == pytest.approx(2 * mean(sides), rel=1e-6)


def test_ipo_rests_where_every_pair_is_ahead_by_half_of_one_over_tau():
    tau = 0.25
    first = jnp.zeros(3).at[0].set(1 / (2 * tau))
    logp = REF + jnp.where(jnp.arange(2)[:, None] == 0, first, 0.0)
    loss = lambda x: ipo(x, REF, BATCH, tau=tau).total
    assert loss(logp) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(jax.grad(loss)(logp), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("alpha", "divergence", "scale"),
    [(0.0, KL, 1), (1.0, REVERSE_KL, 1), (0.5, SQUARED_HELLINGER, 2), (-1.0, PEARSON, 0.5)],
)
def test_a_tilt_is_the_slope_of_its_generator(alpha, divergence, scale):
    """Up to a constant, which no pair sees."""
    log_u = jnp.linspace(-2.0, 2.0, 9)
    slope = scale * jax.vmap(jax.grad(divergence))(jnp.exp(log_u))
    tilt = alpha_tilt(alpha)(log_u)
    np.testing.assert_allclose(tilt - tilt[0], slope - slope[0], rtol=1e-4, atol=1e-4)


def test_a_tilt_without_alpha_is_the_logarithm_and_has_its_slope():
    log_u = jnp.linspace(-2.0, 2.0, 9)
    value, slope = jax.vmap(jax.value_and_grad(alpha_tilt(0.0)))(log_u)
    np.testing.assert_array_equal(value, log_u)
    np.testing.assert_array_equal(slope, jnp.ones(9))


def test_the_tilt_of_jensen_shannon_is_the_slope_of_its_generator():
    log_u = jnp.linspace(-2.0, 2.0, 9)
    slope = jax.vmap(jax.grad(JENSEN_SHANNON))(jnp.exp(log_u))
    np.testing.assert_allclose(jensen_shannon_tilt(log_u), slope, rtol=1e-4, atol=1e-5)


def test_tilts_are_finite_and_rise_far_out():
    log_u = jnp.array([-1e5, -1e3, -50.0, 0.0, 50.0, 1e3, 1e5])
    for alpha in (-1.0, 0.5, 1.0):
        value = alpha_tilt(alpha)(log_u)
        assert np.isfinite(value).all()
        assert (np.diff(value) >= 0).all()


def test_dpop_differs_only_where_the_chosen_has_lost():
    risen = LOGP.at[:, 0].set(REF[:, 0] + 0.1)
    fallen = LOGP.at[:, 0].set(REF[:, 0] - 0.1)
    loss = lambda x, lam: mean(dpop(x, REF, BATCH, beta=BETA, lam=lam))
    assert loss(risen, 50.0) == loss(risen, 0.0)
    assert loss(fallen, 50.0) > loss(fallen, 0.0) + 0.1


def test_tdpo_pushes_on_the_divergence_of_the_rejected_alone():
    kl = jnp.abs(REF)
    loss = lambda kl: tdpo(LOGP, kl, REF, BATCH, beta=BETA, alpha=0.5).total
    gradient = jax.grad(loss)(kl)
    assert not np.any(gradient[:, 0])
    assert (np.asarray(gradient[:, 1])[np.asarray(MASK[:, 1])] > 0).all()


def test_the_cap_of_wpo_is_of_the_product_of_both_weights():
    """As the authors' code has it: min(exp(log w(yʷ) + log w(yˡ)), 1)."""
    plain = dpo(LOGP, REF, BATCH, beta=BETA)
    for share, weight in (([4.0, 0.125], 0.5), ([4.0, 0.5], 1.0), ([0.5, 0.5], 0.25)):
        pairs = jnp.tile(jnp.array(share), [2, 1])
        loss = wpo(LOGP, REF, BATCH, beta=BETA, share=pairs, cap=1.0)
        assert mean(loss) == pytest.approx(weight * mean(plain), rel=1e-5)
    with pytest.raises(InputError, match=r"^cap: expected a number in \(0"):
        wpo(LOGP, REF, BATCH, beta=BETA, share=pairs, cap=0.0)


def test_the_pair_weights_of_wpo_are_no_normaliser():
    plain = mean(dpo(LOGP, REF, BATCH, beta=BETA))
    loss = wpo(LOGP, REF, BATCH, beta=BETA, share=jnp.full([2, 2], 0.5))
    assert mean(loss) == pytest.approx(0.25 * plain, rel=1e-5)
    assert loss.weight == 2


def test_on_policy_weights():
    share = on_policy_weight(LOGP, 0.5 * REF, MASK)
    for index in np.ndindex(2, 2):
        expected = oracles.on_policy_weight(LOGP[index], 0.5 * REF[index], MASK[index])
        assert share[index] == pytest.approx(expected, rel=1e-5)
    assert on_policy_weight(LOGP, LOGP, jnp.zeros_like(MASK)).tolist() == [[1, 1], [1, 1]]
    slope = jax.grad(lambda x: on_policy_weight(x, 0.5 * REF, MASK).sum())(LOGP)
    assert not np.any(slope)


def test_sppo_rests_at_a_step_of_multiplicative_weights():
    eta, win = 2.0, jnp.array([[0.9, 0.2], [0.6, 0.4]])
    step = eta * (win - 0.5)
    logp = REF + jnp.where(MASK, (step / MASK.sum(-1))[..., None], 0.0)
    assert mean(sppo(logp, REF, BATCH, win=win, eta=eta)) == pytest.approx(0, abs=1e-9)


def test_xpo_lowers_what_the_reference_wrote():
    explore = jnp.array([[True, False], [False, True]])
    slope = lambda alpha: jax.grad(
        lambda x: xpo(x, REF, BATCH, beta=BETA, alpha=alpha, explore=explore).total
    )(LOGP)
    bonus = np.where(np.asarray(explore)[..., None] & np.asarray(MASK), 0.3, 0.0)
    np.testing.assert_allclose(slope(0.3) - slope(0.0), bonus, atol=1e-6)


def test_orpo_is_finite_where_a_response_is_certain():
    loss, gradient = jax.value_and_grad(lambda x: orpo(x, BATCH, lam=1.0).total)(0 * LOGP)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("tau", lambda: ipo(LOGP, REF, BATCH, tau=0.0)),
        ("lam", lambda: dpop(LOGP, REF, BATCH, beta=1.0, lam=-1.0)),
        ("gamma", lambda: simpo(LOGP, BATCH, beta=1.0, gamma=-0.1)),
        ("beta", lambda: nca(LOGP, REF, BATCH, beta=0.0)),
        ("alpha", lambda: ld_dpo_score(1.5)),
        ("coefficient", lambda: cpo(LOGP, BATCH, beta=1.0, alpha=-1.0)),
        ("eta", lambda: sppo(LOGP, REF, BATCH, win=jnp.ones([2, 2]), eta=0.0)),
    ],
)
def test_numbers_out_of_range_are_named(name, call):
    with pytest.raises(InputError, match=rf"^{name}: expected a number in"):
        call()
