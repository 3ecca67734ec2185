"""Advantages of turns beside loops, and exactly, in a game whose episodes are all listed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.dynamics.credit import state_advantages
from irl_jax.dynamics.returns import gae, returns
from irl_jax.dynamics.turns import at_first_token, to_tokens, turn_gae, turn_leave_one_out
from irl_jax.losses.policy import reinforce
from irl_jax.types import Group, InputError, Turns
from tests.oracles import advantages as oracles
from tests.oracles.credit import gigpo_advantages

EXACT = {"rtol": 1e-11, "atol": 1e-12}
NUMBER = np.array([[1, 1, 0, 2, 0, 3], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 2, 2, 0]])
FIRST = np.array([[0, 3, 5], [0, -1, -1], [-1, -1, -1], [1, 2, -1]])  # token of each turn
TAKEN = FIRST >= 0


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_turns_and_their_tokens():
    of_turns, of_tokens = draw(0, 4, 3), draw(1, 4, 6)
    of_turns[~TAKEN] = np.nan
    found = np.asarray(to_tokens(of_turns, NUMBER))
    for row, t in np.ndindex(*NUMBER.shape):
        n = NUMBER[row, t]
        assert found[row, t] == (of_turns[row, n - 1] if n else 0.0)
    begins = np.zeros(NUMBER.shape, bool)
    for row, n in np.argwhere(TAKEN):
        begins[row, FIRST[row, n]] = True
    found = np.asarray(at_first_token(np.where(begins, of_tokens, np.nan), Turns(NUMBER, of_turns)))
    expected = [[of_tokens[row, t] if t >= 0 else 0.0 for t in at] for row, at in enumerate(FIRST)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (0.7, 0.0)])
def test_gae_of_turns_is_that_of_rows_with_a_token_for_a_turn(discount, gae_lambda):
    reward, value, final = draw(2, 4, 3), draw(3, 4, 6), draw(4, 4)
    options = {"discount": discount, "gae_lambda": gae_lambda}
    turns = Turns(NUMBER, np.where(TAKEN, reward, np.nan))
    first = np.where(TAKEN, np.take_along_axis(value, FIRST, -1), np.nan)
    spoilt = np.where(np.isin(np.arange(6), FIRST[0]) | (NUMBER > 0), value, np.nan)
    found = jax.jit(partial(turn_gae, **options))(turns, spoilt, final_value=final)
    expected = oracles.gae(reward, first, TAKEN, **options, final_value=final)
    np.testing.assert_allclose(found, to_tokens(expected, NUMBER), **EXACT)
    for row, at in enumerate(FIRST):
        dense = at[at >= 0]
        if not len(dense):
            continue
        collapsed = gae(reward[row, : len(dense)], value[row, dense], np.ones(len(dense), bool),
                        **options, final_value=final[row])  # fmt: skip
        np.testing.assert_allclose(found[row, dense], collapsed, **EXACT)
    assert not np.any(np.asarray(found)[NUMBER == 0])
    ended = turn_gae(turns, spoilt, **options)
    expected = oracles.gae(reward, first, TAKEN, **options, final_value=np.zeros(4))
    np.testing.assert_allclose(ended, to_tokens(expected, NUMBER), **EXACT)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_others_of_equal_number_are_the_baseline(discount):
    rng = np.random.default_rng(5)
    taken = np.arange(4) < rng.integers(0, 5, (3, 4))[..., None]
    taken[0, :, 3] = [True, False, False, False]  # alone
    reward = rng.standard_normal(taken.shape)
    found = turn_leave_one_out(np.where(taken, reward, np.nan), taken, discount=discount)
    follows = np.zeros(taken.shape)
    for b, k, n in np.argwhere(taken):
        at = [m for m in range(n, 4) if taken[b, k, m]]
        follows[b, k, n] = sum(discount**i * reward[b, k, m] for i, m in enumerate(at))
    for b, k, n in np.ndindex(*taken.shape):
        others = [follows[b, j, n] for j in range(4) if j != k and taken[b, j, n]]
        expected = follows[b, k, n] - (np.mean(others) if others else 0.0)
        assert found[b, k, n] == pytest.approx(expected if taken[b, k, n] else 0.0, abs=1e-12)


@pytest.mark.parametrize("scale", [False, True])
def test_turns_of_equal_number_are_states(scale):
    """GiGPO less its comparison of episodes, whose states may be the numbers of turns."""
    rng = np.random.default_rng(6)
    taken = np.arange(4) < rng.integers(1, 5, (3, 4))[..., None]
    reward = rng.standard_normal(taken.shape)
    number = np.broadcast_to(np.arange(1, 5), taken.shape)
    found = state_advantages(
        np.where(taken, reward, np.nan), number, taken, discount=0.8, scale=scale
    )
    both = gigpo_advantages(reward, number, taken, 1.0, 0.8, scale)
    episodes = gigpo_advantages(reward, number, taken, 0.0, 0.8, scale)
    np.testing.assert_allclose(found, both - episodes, rtol=1e-9, atol=1e-10)


class Game:
    """Two turns: a token of 0, 1, 2, of which 0 ends it; an answer of chance; two tokens more.

    Rows of all episodes: action i32[M, 4], turns, probability f64[M] of a policy of logits f64[3]
    and f64[6, 3, 2], of each pair of token and answer, and of the token before or none.
    """

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.chance = rng.dirichlet([1, 1], 3)  # of answers
        rows, numbers, rewards = [[0, 0, 0, 0]], [[1, 0, 0, 0]], [[rng.standard_normal(), 0.0]]
        early = rng.standard_normal(3)
        for first, answer, second, third in np.ndindex(3, 2, 2, 2):
            if first:
                rows.append([first, answer, second, third])
                numbers.append([1, 0, 2, 2])
                rewards.append([early[first], rng.standard_normal()])
        self.action, self.number = np.array(rows), np.array(numbers)
        self.reward = np.array(rewards)
        self.logits = (
            jnp.asarray(rng.standard_normal(3)),
            jnp.asarray(rng.standard_normal((6, 3, 2))),
        )

    def logp(self, logits):
        """Log-probs of the policy's tokens, f64[M, 4]."""
        first, later = (jax.nn.log_softmax(x, -1) for x in logits)
        a, o, b, c = self.action.T
        zero = jnp.zeros(len(a))
        at = 2 * a + o
        logp = jnp.stack([first[a], zero, later[at, 2, b], later[at, b, c]], -1)
        return jnp.where(self.number > 0, logp, 0.0)

    def probability(self, logits):
        """Of the episodes, f64[M]."""
        answered = np.where(self.number[:, -1] > 0,
                            self.chance[self.action[:, 0], self.action[:, 1]], 1.0)  # fmt: skip
        return answered * jnp.exp(self.logp(logits).sum(-1))

    def exact(self):
        """The gradient of the expected total reward."""
        return jax.grad(lambda x: self.probability(x) @ self.reward.sum(-1))(self.logits)

    def value(self):
        """V before each token, f64[M, 4], arbitrary where no turn begins."""
        p, out = np.asarray(self.probability(self.logits)), np.full(self.number.shape, np.nan)
        out[:, 0] = p @ self.reward.sum(-1)
        for row in range(1, len(p)):
            same = (self.action[:, :2] == self.action[row, :2]).all(-1)
            out[row, 2] = p[same] @ self.reward[same, 1] / p[same].sum()
        return out

    def expected(self, advantages, k):
        """The expected gradient over groups of K independent episodes.

        advantages: Turns of [B, K] -> f64[B, K, 4].
        """
        p = np.asarray(self.probability(self.logits))
        groups = np.stack(np.meshgrid(*[np.arange(len(p))] * k, indexing="ij"), -1).reshape(-1, k)
        weight = p[groups].prod(-1)
        number = self.number[groups]
        turns = Turns(jnp.asarray(number), jnp.asarray(self.reward[groups]))
        advantage = jax.jit(lambda: advantages(turns))()

        def loss(logits):
            logp = self.logp(logits)[groups]
            zeros = jnp.zeros(groups.shape)
            of_group = lambda logp, number, advantage: reinforce(
                logp[None], Group(None, None, number[None] > 0, logp[None], zeros, zeros),
                advantage=advantage[None],
            ).mean  # fmt: skip
            return weight @ jax.vmap(of_group)(logp, number, advantage)

        return jax.tree.map(jnp.negative, jax.jit(jax.grad(loss))(self.logits))


@pytest.fixture(scope="module", params=[0, 1])
def game(request):
    with jax.enable_x64(True):
        return Game(request.param)


def assert_same(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, **EXACT), found, expected)


def test_the_expected_gradient_of_turns_is_that_of_the_value(game):
    """Of returns, of turns against others of equal number, of exact values; of whole episodes."""
    exact = game.exact()
    assert sum(float(jnp.abs(x).max()) for x in exact) > 0.1
    to_go = lambda t: to_tokens(returns(t.reward, t.mask, discount=1.0), t.number)
    assert_same(game.expected(to_go, 1), exact)
    others = lambda t: to_tokens(turn_leave_one_out(t.reward, t.mask, discount=1.0), t.number)
    assert_same(game.expected(others, 2), exact)
    whole = lambda t: leave_one_out(t.reward.sum(-1))[..., None] * jnp.ones(4)
    assert_same(game.expected(whole, 2), exact)
    value = jnp.asarray(game.value())[:, None]
    for gae_lambda in (0.0, 0.5, 1.0):
        critic = partial(turn_gae, value=value, discount=1.0, gae_lambda=gae_lambda)
        assert_same(game.expected(critic, 1), exact)


def test_a_mean_that_holds_the_turn_itself_shortens_the_gradient_of_each_turn(game):
    """By 1 − 1/n of n turns: by a half, and where the other has no second turn to nothing."""

    def compared(turns):
        number = jnp.broadcast_to(jnp.arange(2), turns.reward.shape)
        advantage = state_advantages(turns.reward, number, turns.mask, discount=1.0, scale=False)
        return to_tokens(advantage, turns.number)

    first, later = game.expected(compared, 2)
    exact_first, exact_later = game.exact()
    reached = 1 - game.probability(game.logits)[0]
    np.testing.assert_allclose(first, exact_first / 2, **EXACT)
    np.testing.assert_allclose(later, reached * exact_later / 2, **EXACT)
    assert 0.1 < reached < 0.9


unlike = partial(state_advantages, discount=1.0, scale=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, t: to_tokens(r, NUMBER[:2]), "number: expected shape"),
        (lambda r, t: to_tokens(TAKEN, NUMBER), "x: expected a floating dtype"),
        (lambda r, t: at_first_token(r, t), "x: expected shape"),
        (lambda r, t: turn_gae(t, r, discount=1.0, gae_lambda=1.0), "x: expected shape"),
        (lambda r, t: turn_leave_one_out(r, TAKEN, discount=1.0), "mask: expected shape"),
        (lambda r, t: turn_leave_one_out(r[None], TAKEN[None], discount=2.0), "discount"),
        (lambda r, t: unlike(r[None], NUMBER[None], TAKEN[None]), "state: expected shape"),
    ],
)
def test_bad_input(call, message):
    reward = np.zeros((4, 3))
    with pytest.raises(InputError, match=f"^{message}"):
        call(reward, Turns(NUMBER, reward))
