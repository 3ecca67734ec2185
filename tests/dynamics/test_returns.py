import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.advantages import group_advantages, whiten
from irl_jax.dynamics.returns import gae, next_value, returns
from irl_jax.dynamics.shaping import adapted_beta, kl_penalised, potential_shaped
from irl_jax.types import InputError
from tests.oracles import advantages as oracles

B, T = 4, 6
RNG = np.random.default_rng(0)
MASK = np.arange(T) < np.array([6, 3, 1, 0])[:, None]
REWARD, VALUE = (np.float32(np.where(MASK, RNG.standard_normal([B, T]), np.nan)) for _ in range(2))
FINAL = np.float32(RNG.standard_normal(B))
estimate, accumulate, follow = (jax.jit(f) for f in (gae, returns, next_value))
shape, penalise, whitened = (jax.jit(f) for f in (potential_shaped, kl_penalised, whiten))
adapt = jax.jit(adapted_beta)


@pytest.mark.parametrize(
    ("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (0.7, 0.0), (1.0, 1.0)]
)
def test_gae_equals_oracle(discount, gae_lambda):
    options = {"discount": discount, "gae_lambda": gae_lambda, "final_value": FINAL}
    expected = oracles.gae(REWARD, VALUE, MASK, **options)
    np.testing.assert_allclose(estimate(REWARD, VALUE, MASK, **options), expected, atol=1e-5)


HOLES = np.array([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (0.7, 0.0), (1.0, 1.0)]
)
def test_what_is_no_action_is_skipped(discount, gae_lambda):
    """A row with holes is the row without them: values, traces and discounts go across."""
    mask, rng = HOLES > 0, np.random.default_rng(1)
    reward, value = (
        np.float32(np.where(mask, rng.standard_normal([B, T]), np.nan)) for _ in range(2)
    )
    options = {"discount": discount, "gae_lambda": gae_lambda}
    got = np.asarray(estimate(reward, value, mask, **options, final_value=FINAL))
    expected = oracles.gae(reward, value, mask, **options, final_value=FINAL)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for row in range(B):
        at = np.flatnonzero(mask[row])
        dense = np.ones(len(at), bool)
        alone = estimate(reward[row, at], value[row, at], dense, **options, final_value=FINAL[row])
        np.testing.assert_allclose(got[row, at], alone, atol=1e-5)
    assert not np.any(got[~mask])


def test_returns_and_shaping_skip_holes():
    mask, reward = np.array([True, False, True, True]), np.array([1.0, np.nan, 2.0, 4.0])
    reward = reward.astype(np.float32)
    assert accumulate(reward, mask, discount=0.5).tolist() == [3.0, 0.0, 4.0, 4.0]
    potential = np.float32([1.0, np.nan, 3.0, 5.0])
    shaped = shape(reward, potential, mask, discount=1.0)
    assert shaped.tolist() == [3.0, 0.0, 4.0, -1.0]
    penalised = penalise(np.float32(6.0), reward, 0 * reward, np.array([0, 0, 1, 0]) > 0, beta=1)
    assert penalised.tolist() == [0.0, 0.0, 4.0, 0.0]


def test_no_trace_is_the_temporal_difference_and_all_of_it_is_monte_carlo():
    value = np.where(MASK, VALUE, 0)
    after = np.where(np.roll(MASK, -1, 1) & (np.arange(T) < T - 1), np.roll(value, -1, 1), 0)
    difference = np.where(MASK, REWARD + 0.9 * after - value, 0)
    zeros = np.zeros(B, np.float32)
    got = estimate(REWARD, VALUE, MASK, discount=0.9, gae_lambda=0.0, final_value=zeros)
    np.testing.assert_allclose(got, difference, atol=1e-6)
    to_go = accumulate(REWARD, MASK, discount=0.9)
    got = estimate(REWARD, VALUE, MASK, discount=0.9, gae_lambda=1.0, final_value=zeros)
    np.testing.assert_allclose(got, np.where(MASK, to_go - value, 0), atol=1e-5)


def test_padding_is_masked_before_arithmetic():
    """Without jit, in which XLA makes a selection of a product with a mask."""
    options = {"discount": 0.9, "final_value": FINAL}
    found = (
        gae(REWARD, VALUE, MASK, gae_lambda=0.5, **options),
        returns(REWARD, MASK, discount=0.9),
        next_value(VALUE, MASK, **options),
        potential_shaped(REWARD, VALUE, MASK, discount=0.9),
        kl_penalised(FINAL, REWARD, VALUE, MASK, beta=0.3),
        whiten(VALUE, MASK),
    )
    assert all(np.isfinite(x).all() for x in found)


def test_a_value_that_is_right_leaves_no_advantage():
    """Deterministic rewards: V is the return, so every δ is 0, whatever λ."""
    to_go = accumulate(REWARD, MASK, discount=0.9)
    got = estimate(REWARD, to_go, MASK, discount=0.9, gae_lambda=0.7)
    np.testing.assert_allclose(got, 0, atol=1e-6)


def test_penalised_rewards_add_up_to_the_reward_less_the_kl():
    logp, ref_logp = VALUE, np.float32(np.where(MASK, RNG.standard_normal([B, T]), np.nan))
    rewards = np.asarray(penalise(FINAL, logp, ref_logp, MASK, beta=0.3))
    kl = np.where(MASK, logp - ref_logp, 0).sum(1)
    np.testing.assert_allclose(rewards.sum(1), (FINAL - 0.3 * kl) * MASK.any(1), rtol=1e-5)
    assert not np.any(rewards[~MASK])
    np.testing.assert_allclose(
        rewards[1, 0] - rewards[1, 1], 0.3 * np.diff(logp - ref_logp)[1, 0], rtol=1e-4
    )


def test_potentials_change_every_return_by_that_of_the_first_state():
    shaped = shape(REWARD, VALUE, MASK, discount=0.9)
    change = accumulate(shaped, MASK, discount=0.9) - accumulate(REWARD, MASK, discount=0.9)
    np.testing.assert_allclose(change, -np.where(MASK, VALUE, 0), atol=1e-5)


def test_the_controller_comes_to_its_target():
    """A policy whose KL is 1/β: β = 1/target is where it rests."""
    beta = jnp.float32(1.0)
    for _ in range(300):
        beta = adapt(beta, 1 / beta, target=5.0, gain=0.1)
    assert beta == pytest.approx(0.2, rel=1e-3)
    assert adapted_beta(1.0, 1e6, target=5.0, gain=0.1) == pytest.approx(1.02)
    assert adapted_beta(1.0, 0.55, target=0.5, gain=0.1) == pytest.approx(1.01)


def test_numbers_out_of_range_are_named():
    with pytest.raises(InputError, match=r"^gae_lambda: expected a number in"):
        gae(REWARD, VALUE, MASK, discount=1.0, gae_lambda=1.1)
    with pytest.raises(InputError, match=r"^final_value: expected shape \[4\]"):
        estimate(
            REWARD, VALUE, MASK, discount=1.0, gae_lambda=1.0, final_value=np.zeros(1, np.float32)
        )


def test_reinforce_plus_plus_is_the_whitened_reward_to_go():
    """Hu et al. 2025: Aₜ = r − β Σ_{s≥t} KL(s), over the batch's mean and deviation."""
    logp, ref_logp = np.where(MASK, VALUE, 0), np.float32(RNG.standard_normal([B, T]))
    to_go = accumulate(penalise(FINAL, logp, ref_logp, MASK, beta=0.3), MASK, discount=1.0)
    advantage = np.zeros([B, T])
    for i, t in np.argwhere(MASK):
        later = [s for s in range(t, T) if MASK[i, s]]
        advantage[i, t] = FINAL[i] - 0.3 * sum(logp[i, s] - ref_logp[i, s] for s in later)
    np.testing.assert_allclose(to_go, advantage, atol=1e-5)
    expected = oracles.whiten(advantage, MASK)
    np.testing.assert_allclose(whitened(to_go, MASK), expected, rtol=1e-3, atol=1e-5)


def test_reinforce_plus_plus_with_a_baseline_counts_tokens():
    """A long completion moves the mean and the deviation more than a short one."""
    reward = np.float32([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    mask = np.arange(4) < np.array([[4, 1, 1], [2, 3, 0]])[..., None]
    advantage = np.asarray(group_advantages(reward, scale=False))
    got = np.asarray(whitened(advantage, mask))
    np.testing.assert_allclose(got, oracles.whiten(np.asarray(advantage), mask), rtol=1e-4)
    assert got.shape == mask.shape and not np.any(got[~mask])
    np.testing.assert_allclose(got[mask].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(got[mask].std(), 1, rtol=1e-4)
    by_completion = whitened(advantage, mask.any(-1))
    assert np.abs(got[..., 0] - by_completion)[mask[..., 0]].max() > 0.2
    with pytest.raises(InputError, match=r"^advantage: expected shape \[2, 3\]"):
        whitened(advantage[:1], mask)


# ----- rows of several episodes


def stream(seed, lengths, ends):
    """A row of episodes, "terminated", "cut", or "going" on after the last column."""
    rng = np.random.default_rng(seed)
    mask, discount = [], []
    for length, end in zip(lengths, ends, strict=True):
        mask += [True] * length + [False] * (end == "cut")
        discount += [0.9] * (length - 1) + [0.0 if end == "terminated" else 0.9]
        discount += [0.0] * (end == "cut")
    mask = np.array(mask)
    reward, value = rng.standard_normal([2, len(mask)])
    return np.where(mask, reward, np.nan), value, mask, np.array(discount), rng.standard_normal()


KINDS = ("terminated", "cut", "going")


@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("last", KINDS)
def test_episodes_in_a_row_are_the_episodes_apart(last, gae_lambda):
    with jax.enable_x64(True):
        lengths, ends = (3, 2, 1, 3), ("cut", "terminated", "cut", last)
        reward, value, mask, discount, final = stream(0, lengths, ends)
        got = estimate(
            reward, value, mask, discount=discount, gae_lambda=gae_lambda, final_value=final
        )
        expected = oracles.stream_gae(
            np.where(mask, reward, 0), value, mask, discount, gae_lambda=gae_lambda,
            final_value=final,
        )  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        begin = 0
        for length, end in zip(lengths, ends, strict=True):
            own = slice(begin, begin + length)
            after = {"cut": value[min(begin + length, len(value) - 1)], "going": final}.get(end, 0)
            alone = estimate(
                reward[own], value[own], mask[own], discount=0.9, gae_lambda=gae_lambda,
                final_value=jnp.asarray(float(after)),
            )  # fmt: skip
            np.testing.assert_allclose(got[own], alone, rtol=1e-12)
            begin += length + (end == "cut")


def test_an_episode_that_was_cut_goes_on_in_its_value_and_one_that_ended_does_not():
    reward, value, mask = np.float32([1.0, 1.0]), np.float32([0.0, 0.0]), np.ones(2, bool)
    of = lambda last: estimate(
        reward, value, mask, discount=np.float32([0.5, last]), gae_lambda=1.0,
        final_value=jnp.float32(8.0),
    ).tolist()  # fmt: skip
    assert of(0.5) == [3.5, 5.0]
    assert of(0.0) == [1.5, 1.0]
    to_go = accumulate(reward, mask, discount=np.float32([0.5, 0.0]))
    assert to_go.tolist() == [1.5, 1.0]


def test_one_discount_for_all_columns_is_the_number():
    """With padding, which is skipped, and holes."""
    for mask in (MASK, HOLES > 0):
        reward, value = (np.where(mask, RNG.standard_normal([B, T]), np.nan) for _ in range(2))
        options = {"gae_lambda": 0.7, "final_value": FINAL}
        number = estimate(np.float32(reward), np.float32(value), mask, discount=0.9, **options)
        array = np.full([B, T], 0.9, np.float32)
        columns = estimate(np.float32(reward), np.float32(value), mask, discount=array, **options)
        np.testing.assert_allclose(columns, number, rtol=1e-5, atol=1e-6)


def test_what_lies_in_no_episode_may_be_nan():
    reward, value, mask, discount, final = stream(1, (2, 2), ("cut", "going"))
    padded = lambda x: np.append(x, [np.nan, np.nan])
    longer = np.append(mask, [False, False])
    whole = gae(
        padded(reward), padded(value), longer, discount=padded(discount), gae_lambda=0.8,
        final_value=final,
    )  # fmt: skip
    alone = gae(reward, value, mask, discount=discount, gae_lambda=0.8, final_value=final)
    np.testing.assert_allclose(whole[:-2], alone, rtol=1e-6)
    of = lambda v, final: gae(
        padded(reward), v, longer, discount=padded(discount), gae_lambda=0.8, final_value=final
    ).sum()
    slopes = jax.grad(of, argnums=(0, 1))(jnp.asarray(padded(value)), jnp.asarray(final))
    assert all(np.isfinite(slope).all() for slope in slopes) and float(slopes[1]) > 0
    with pytest.raises(InputError, match=r"^discount: expected shape \[5\], got \[4\]"):
        gae(reward, value, mask, discount=discount[1:], gae_lambda=0.8)


def test_potentials_of_a_row_of_episodes_change_each_return_by_its_first_state():
    """And by the potential of the state in which it was cut."""
    reward, value, mask, discount, final = stream(2, (3, 2, 2), ("cut", "terminated", "going"))
    reward = np.where(mask, reward, 0)
    shaped = shape(reward, value, mask, discount=discount, final_potential=final)
    change = accumulate(shaped, mask, discount=discount) - accumulate(
        reward, mask, discount=discount
    )
    expected = [0.9**3 * value[3] - value[0], -value[4], 0.9**2 * final - value[6]]
    np.testing.assert_allclose(np.asarray(change)[[0, 4, 6]], expected, rtol=1e-4)


@pytest.mark.parametrize("last", KINDS)
def test_what_follows_an_action_is_known_where_its_episode_ended_was_cut_or_goes_on(last):
    lengths, ends = (2, 2, 1, 2), ("cut", "terminated", "terminated", last)
    _, value, mask, discount, final = stream(3, lengths, ends)
    with jax.enable_x64(True):
        got = follow(value, mask, discount=discount, final_value=final, end_value=-7.0)
    final_row = {"cut": 0.9 * value[-1], "terminated": -7.0, "going": 0.9 * final}[last]
    first = [0.9 * value[1], 0.9 * value[2], 0.0]  # column 2 is where it was cut
    expected = [*first, 0.9 * value[4], -7.0, -7.0, 0.9 * value[7], final_row]
    np.testing.assert_allclose(got, expected + [0.0] * (last == "cut"), rtol=1e-12)


def test_an_end_has_no_worth_of_its_own_where_discounts_do_not_tell_it():
    value, mask = np.float32([1.0, 2.0]), np.ones(2, bool)
    assert follow(value, mask, discount=0.0, end_value=5.0).tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match=r"^final_value: expected shape \[\]"):
        follow(value, mask, discount=1.0, final_value=value)
