import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from irl_jax.dynamics.advantages import (
    baseline_advantages,
    group_advantages,
    leave_one_out,
    maxrl_advantages,
    nash_advantages,
    optimal_token_baseline,
    pass_at_k_advantages,
    role_advantages,
    whiten,
)
from irl_jax.masking import masked_mean
from irl_jax.types import InputError
from tests.oracles import advantages as oracles
from tests.oracles.language import Language, log_softmax

LANGUAGE = Language()  # 7 completions
LOGITS = LANGUAGE.draw(0)
RIGHT = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
WORTH = np.array([0.3, -1.0, 0.8, 0.3, 0.0, 1.7, -0.4])


of_groups = jax.jit(group_advantages, static_argnames="scale")
slopes = jax.jit(jax.jacobian(group_advantages), static_argnames="scale")
whitened = jax.jit(whiten, static_argnames="centre")


def expected_gradient(advantages, reward, size):
    """E[1/K Σᵢ Aᵢ ∇ log π(oᵢ)] over every group of completions, f64[S, V]."""
    every, chance = LANGUAGE.groups(LOGITS, size)
    with jax.enable_x64(True):
        gain = np.asarray(advantages(reward[every]))
    counts = np.zeros((len(every), len(reward)))
    for i in range(size):
        np.add.at(counts, (np.arange(len(every)), every[:, i]), gain[:, i] / size)
    return np.einsum("g,gn,nsv->sv", chance, counts, LANGUAGE.scores(LOGITS))


def best_of(reward, k):
    """∇ E[max of k rewards], pass@k of rewards of 0 and 1, over every k completions."""
    every, chance = LANGUAGE.groups(LOGITS, k)
    scores = LANGUAGE.scores(LOGITS)
    return sum(np.einsum("g,gsv->sv", chance * reward[every].max(-1), scores[e]) for e in every.T)


def test_maxrl_ascends_on_the_truncated_likelihood_of_being_right():
    """Exactly, over every group of four: Σ pass@k/k, of which the last is that of A = −1."""
    terms = [best_of(RIGHT, k) / k for k in (1, 2, 3, 4)]
    gradient = expected_gradient(maxrl_advantages, RIGHT, 4)
    np.testing.assert_allclose(gradient, sum(terms[:3]), rtol=1e-9, atol=1e-12)
    kept = lambda r: maxrl_advantages(r) - (r.max(-1, keepdims=True) == 0)
    gradient = expected_gradient(kept, RIGHT, 4)
    np.testing.assert_allclose(gradient, sum(terms), rtol=1e-9, atol=1e-12)
    p = LANGUAGE.chance(LOGITS) @ RIGHT
    weight = sum((1 - p) ** (k - 1) for k in (1, 2, 3, 4))
    np.testing.assert_allclose(sum(terms), weight * best_of(RIGHT, 1), rtol=1e-9, atol=1e-12)
    assert weight > 1.5  # a hard prompt; 1/p is the limit


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("reward", [RIGHT, WORTH], ids=["right", "real"])
def test_advantages_of_pass_at_k_are_unbiased(k, reward):
    """Of three completions, exactly, over every group: the gradient of the best of k."""
    gradient = expected_gradient(lambda r: pass_at_k_advantages(r, k=k), reward, 3)
    expected = best_of(reward, k)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 0.01


def test_advantages_of_pass_at_k_by_hand():
    """Of five, two right: 3 P(two of four others are wrong) = 3 · C(3, 2)/C(4, 2)."""
    reward = jnp.array([[0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0]])
    expected = [[0, 1.5, 0, 1.5, 0], [0] * 5]
    np.testing.assert_allclose(pass_at_k_advantages(reward, k=3), expected, rtol=1e-6)
    for k in (0, 6):
        with pytest.raises(InputError, match=r"^k: expected 1 to 5"):
            pass_at_k_advantages(reward, k=k)


def test_the_optimal_token_baseline_equals_oracle():
    """Energies are the squared lengths of the language's own gradients of log π by logits."""
    group = [1, 4, 5, 0]
    energy = (LANGUAGE.token_scores(LOGITS) ** 2).sum((-2, -1))[group].cumsum(-1)
    mask, reward = LANGUAGE.mask[group], WORTH[group]
    out = np.zeros(mask.shape)
    for i, t in np.argwhere(mask):
        others = [j for j in range(4) if j != i and mask[j, t]]
        weight = sum(energy[j, t] for j in others)
        out[i, t] = reward[i] - sum(energy[j, t] * reward[j] for j in others) / max(weight, 1e-30)
    collision = np.log((np.exp(log_softmax(LOGITS)) ** 2).sum(-1))[LANGUAGE.state]
    spoilt = lambda x: jnp.float32(np.where(mask, x, np.nan))[None]
    actual = optimal_token_baseline(
        spoilt(reward[:, None]),
        spoilt(LANGUAGE.logp(LOGITS)[group]),
        spoilt(collision[group]),
        mask[None],
    )[0]
    np.testing.assert_allclose(actual, out, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"^to_go: expected shape"):
        optimal_token_baseline(spoilt(reward[:, None])[:, :1], *[spoilt(0.0)] * 2, mask[None])


def test_of_one_token_the_optimal_baseline_has_the_least_variance():
    """In the limit: four hundred completions that come as often as they should."""
    language, chance = Language(3, 1), np.array([0.5, 0.25, 0.25])
    every = np.repeat([0, 1, 1, 2], 100)  # completions 2, 0 and 1
    order = language.action[:, 0]
    worth, collision = np.array([3.0, -1.0, 2.0])[order], np.log((chance**2).sum())
    row = lambda x: jnp.float32(x)[every][None, :, None]
    advantage = optimal_token_baseline(
        row(worth),
        row(np.log(chance)[order]),
        jnp.full([1, 400, 1], collision),
        jnp.ones([1, 400, 1], bool),
    )
    baselines = row(worth) - advantage
    length = (language.scores(np.log(chance)[None]) ** 2).sum((-2, -1))
    second_moment = lambda b: chance[order] @ ((worth - b) ** 2 * length)
    grid = np.linspace(-1, 2, 3001)
    least = grid[np.argmin([second_moment(b) for b in grid])]
    np.testing.assert_allclose(baselines, least, atol=0.01)
    assert abs(least - chance[order] @ worth) > 0.05  # the mean is not it


def test_the_optimal_token_baseline_is_unbiased_and_need_not_vary_less():
    """Over every group of three, exactly; the variance in logits against that of RLOO."""
    every, chance = LANGUAGE.groups(LOGITS, 3)
    mask, logp = LANGUAGE.mask[every], LANGUAGE.logp(LOGITS)[every]
    collision = np.log((np.exp(log_softmax(LOGITS)) ** 2).sum(-1))[LANGUAGE.state][every]
    worth = WORTH + 2.0 * (LANGUAGE.chance(LOGITS) < 0.1)  # what is rare is worth more
    to_go = np.broadcast_to(worth[every][..., None], mask.shape)
    with jax.enable_x64(True):
        optimal = np.asarray(optimal_token_baseline(to_go, logp, collision, mask))
        plain = np.asarray(leave_one_out(worth[every]))[..., None] * mask
    scores = LANGUAGE.token_scores(LOGITS)[every]
    drawn = {
        name: np.einsum("gkt,gktsv->gsv", advantage / 3, scores)
        for name, advantage in (("optimal", optimal), ("plain", plain))
    }
    expected = LANGUAGE.gradient(LOGITS, worth)
    for gradient in drawn.values():
        mean = np.einsum("g,gsv->sv", chance, gradient)
        np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-8)
    variance = {n: chance @ ((g - expected) ** 2).sum((-2, -1)) for n, g in drawn.items()}
    assert variance["optimal"] == pytest.approx(0.600, abs=1e-3)
    assert variance["plain"] == pytest.approx(0.493, abs=1e-3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    shape=st.sampled_from([(1, 2), (3, 4)]),
    scale=st.booleans(),
    eps=st.sampled_from([0.0, 1e-6, 1e-1]),
)
def test_equals_oracle(seed, shape, scale, eps):
    reward = np.random.default_rng(seed).standard_normal(shape)
    expected = oracles.group_advantages(reward, scale=scale, eps=eps)
    actual = of_groups(reward.astype(np.float32), scale=scale, eps=eps)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    with jax.enable_x64(True):
        actual = of_groups(reward, scale=scale, eps=eps)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_two_completions_are_at_one_over_root_two():
    reward = np.float32([[3.0, 7.0]])
    np.testing.assert_allclose(of_groups(reward), [[-(0.5**0.5), 0.5**0.5]], rtol=1e-5)
    np.testing.assert_allclose(of_groups(reward, scale=False), [[-2.0, 2.0]])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16))
def test_zero_mean_unit_deviation_and_affine_invariance(seed):
    reward = np.random.default_rng(seed).standard_normal([2, 5]).astype(np.float32)
    advantage = np.asarray(of_groups(reward, eps=0.0))
    np.testing.assert_allclose(advantage.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(advantage.std(-1, ddof=1), 1, rtol=1e-4)
    np.testing.assert_allclose(of_groups(10 * reward - 3, eps=0.0), advantage, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4 / 3, 1e30])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_rewards_are_exactly_zero_with_a_zero_gradient(value, scale, eps):
    reward = np.full([1, 7], value, np.float32)
    assert not np.any(of_groups(reward, scale=scale, eps=eps))
    assert not np.any(slopes(reward, scale=scale, eps=eps))


def test_almost_equal_rewards_are_finite():
    reward = np.float32([[0.0, 0.0, 1e-30]])
    assert np.isfinite(of_groups(reward, eps=0.0)).all()
    assert np.isfinite(slopes(reward, eps=0.0)).all()


def test_gradient_equals_differences():
    with jax.enable_x64(True):
        reward = np.random.default_rng(0).standard_normal([2, 3])
        check_grads(of_groups, [reward], order=1, eps=1e-6)


def test_a_bad_group_stays_alone():
    reward = np.float32([[np.nan, 1.0, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(np.asarray(of_groups(reward))[1], [-1, 0, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (jnp.zeros([3]), r"reward: expected shape \[_, _\], got \[3\]"),
        (jnp.zeros([2, 3], jnp.int32), "reward: expected a floating dtype, got int32"),
        (jnp.zeros([4, 1]), r"reward: a group needs at least 2 completions, got shape \[4, 1\]"),
    ],
)
def test_bad_rewards_are_named(reward, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        group_advantages(reward)


def test_negative_eps_is_named():
    with pytest.raises(InputError, match=r"^eps: expected a number in"):
        group_advantages(jnp.zeros([1, 2]), eps=-1.0)


def test_leave_one_out_equals_oracle():
    reward = np.random.default_rng(0).standard_normal([3, 4])
    np.testing.assert_allclose(
        leave_one_out(reward.astype(np.float32)),
        oracles.leave_one_out(reward),
        rtol=1e-4,
        atol=1e-5,
    )
    assert not np.any(leave_one_out(jnp.full([1, 3], 0.1)))


def test_group_of_two_without_deviation_is_half_of_leave_one_out():
    reward = np.random.default_rng(1).standard_normal([5, 2]).astype(np.float32)
    np.testing.assert_allclose(
        2 * of_groups(reward, scale=False), leave_one_out(reward), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("centre", [True, False])
def test_whiten_equals_oracle(centre):
    rng = np.random.default_rng(2)
    advantage, mask = rng.standard_normal([3, 4]) + 2, rng.random([3, 4]) < 0.7
    expected = oracles.whiten(advantage, mask, centre=centre)
    spoilt = np.where(mask, advantage, np.nan).astype(np.float32)
    actual = whitened(spoilt, mask, centre=centre)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_whitening_what_is_equal_or_nothing_is_zero():
    ones = np.ones([2, 3], bool)
    tenths = np.full([2, 3], 0.1, np.float32)
    assert not np.any(whitened(tenths, ones))
    assert not np.any(whitened(np.full_like(tenths, np.nan), ~ones))
    mask = np.arange(800).reshape(2, 400) < 777
    # in float32 the mean of 777 of 0.3 is not 0.3
    rounded = np.where(mask, 0.3, np.nan).astype(np.float32)
    assert jax.jit(masked_mean)(rounded, mask) != np.float32(0.3)
    assert not np.any(whitened(rounded, mask, eps=0.0))
    gradient = jax.jit(jax.grad(lambda x: whiten(x, ones).sum()))(tenths)
    assert np.isfinite(gradient).all()


def test_nash_advantages_equal_oracle():
    rng = np.random.default_rng(3)
    preference, ratio = rng.random([2, 3, 4]), rng.standard_normal([2, 3])
    actual = nash_advantages(np.float32(preference), np.float32(ratio), tau=0.3)
    np.testing.assert_allclose(actual, oracles.nash(preference, ratio, tau=0.3), rtol=1e-4)
    with pytest.raises(InputError, match=r"^log_ratio: expected shape \[2, 3\]"):
        nash_advantages(np.float32(preference), np.float32(ratio[:, :1]), tau=0.3)
    with pytest.raises(InputError, match=r"^tau: "):
        nash_advantages(np.float32(preference), np.float32(ratio), tau=-0.1)


def test_a_baseline_of_another_size_is_named():
    with pytest.raises(InputError, match=r"^baseline: expected shape \[2\], got \[1\]"):
        baseline_advantages(jnp.zeros([2, 3]), jnp.zeros([1]))


def test_role_advantages_equal_oracle():
    """Roles come in any order and not all of them; the baseline goes on from batch to batch."""
    rng = np.random.default_rng(3)
    reward, role = rng.normal(0.5, 2.0, 24), rng.integers(0, 3, 24)
    start = np.array([1.0, -2.0, 0.0, 5.0])
    step = jax.jit(role_advantages, static_argnames="decay")
    baseline, advantages = jnp.asarray(start, jnp.float32), []
    for at in (slice(0, 12), slice(12, 24)):
        advantage, baseline = step(
            jnp.asarray(reward[at], jnp.float32), jnp.asarray(role[at]), baseline, decay=0.75
        )
        advantages.append(advantage)
    wanted, b = oracles.role_advantages(reward, role, start, 0.75)
    np.testing.assert_allclose(np.concatenate(advantages), wanted, atol=1e-5)
    np.testing.assert_allclose(baseline, b, atol=1e-5)
    assert baseline[3] == 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decay": 1.5}, "decay"),
        ({"role": jnp.zeros(3, jnp.int32)}, r"role: expected shape \[2\]"),
        ({"reward": jnp.zeros((2, 1))}, "reward"),
        ({"baseline": jnp.zeros((2, 1))}, "baseline"),
    ],
)
def test_bad_roles_are_named(change, message):
    given = {"reward": jnp.zeros(2), "role": jnp.zeros(2, jnp.int32), "baseline": jnp.zeros(2)}
    with pytest.raises(InputError, match=message):
        role_advantages(**(given | {"decay": 0.5} | change))
