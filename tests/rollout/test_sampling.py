"""Drawn tokens follow the distribution that sorting and float64 give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from irl_jax.rollout import sampling
from irl_jax.rollout.sampling import BLOCK, Sampling, draw, log_probs, truncate
from irl_jax.types import InputError
from tests.oracles import sampling as oracle

V = 2 * BLOCK + 88  # three blocks, the last one not full
draw_jit = jax.jit(draw, static_argnums=2)
truncate_jit = jax.jit(truncate, static_argnums=1)

# few settings, since each compiles; the logits are what varies
SETTINGS = [
    Sampling(top_k=1),
    Sampling(top_k=3),
    Sampling(top_k=9),  # as many as there are
    Sampling(top_k=50),
    Sampling(top_p=0.3),
    Sampling(top_p=0.999),
    Sampling(temperature=0.5, top_k=4, top_p=0.8),  # a power of two divides exactly
]
LOGITS = st.one_of(
    st.lists(st.floats(-30, 30, width=32), min_size=9, max_size=9),
    st.lists(st.sampled_from([-1e4, -2.0, 0.0, -0.0, 1.0, 1.0, 3.0]), min_size=9, max_size=9),
    st.lists(st.floats(-(2.0**126), 2.0**15, width=32), min_size=9, max_size=9),
)


@given(LOGITS, st.sampled_from(SETTINGS))
def test_truncation_is_that_of_sorting(logits, setting):
    x = np.float32(logits)
    assume(not oracle.undecided(x, **vars(setting), margin=1e-5))
    assume(np.abs(x[x != 0]).min(initial=1.0) > 1e-30)  # XLA takes subnormals for 0
    got = np.asarray(truncate_jit(x, setting))
    keep = oracle.kept(x, **vars(setting))
    np.testing.assert_array_equal(got > -np.inf, keep)
    want = (x - x.max()) / np.float32(setting.temperature)
    np.testing.assert_array_equal(got[keep], want[keep])


def test_truncation_by_hand():
    p = np.log(np.float32([0.1, 0.4, 0.2, 0.05, 0.25]))
    kept = lambda x, **setting: np.asarray(truncate_jit(x, Sampling(**setting))) > -np.inf
    keeps = lambda **setting: np.flatnonzero(kept(p, **setting)).tolist()
    assert keeps() == [0, 1, 2, 3, 4]
    assert keeps(top_k=2) == [1, 4]
    assert keeps(top_p=0.39) == [1]
    assert keeps(top_p=0.41) == [1, 4]
    assert keeps(top_p=0.86) == [0, 1, 2, 4]
    assert keeps(top_k=2, top_p=0.7) == [1, 4]  # 0.4 of the 0.65 that top_k left is not 0.7
    assert keeps(top_k=2, top_p=0.6) == [1]
    ties = lambda x, **setting: kept(np.float32(x), **setting).tolist()
    assert ties([2, 2, 2, 0], top_k=1) == [True, True, True, False]
    assert ties([2, 2, 1, 1], top_k=3) == [True] * 4
    assert ties([0, 0, 0, 0], top_p=0.1) == [True] * 4


@pytest.fixture(scope="module")
def logits():
    """f32[V]; some tokens of every block are likely, some all but impossible."""
    x = np.random.default_rng(0).normal(0, 2, V).astype(np.float32)
    x[::17] = -1e9
    return x


@pytest.mark.parametrize(
    "setting",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=2.0),
        Sampling(top_k=40),
        Sampling(top_p=0.9),
        Sampling(temperature=1.5, top_k=300, top_p=0.7),
    ],
    ids=str,
)
def test_frequencies_and_log_probs(logits, setting):
    n = 8000
    tokens, logp = draw_jit(jax.random.key(0), np.broadcast_to(logits, (n, V)), setting)
    assert tokens.shape == logp.shape == (n,)
    assert tokens.dtype == jnp.int32 and logp.dtype == jnp.float32
    want = oracle.log_probs(logits, **vars(setting))
    np.testing.assert_allclose(logp, want[np.asarray(tokens)], rtol=1e-5, atol=1e-5)
    counts, expected = np.bincount(tokens, minlength=V), n * np.exp(want)
    assert (counts[expected == 0] == 0).all()
    often = expected >= 5
    rest = lambda x: [x[~often].sum()] if expected[~often].sum() > 5 else []
    observed, wanted = [*counts[often], *rest(counts)], [*expected[often], *rest(expected)]
    statistic = np.sum((np.array(observed) - wanted) ** 2 / wanted)
    assert scipy.stats.chi2.sf(statistic, len(wanted) - 1) > 1e-3
    assert len(wanted) > 25


def test_rows_have_their_own_logits_and_numbers():
    """Leading axes are rows; a vocabulary smaller than a block."""
    x = np.full((40, 50, 7), -20.0, np.float32)
    x[:20, :, 2], x[20:, :, 5], x[20:, :, 6] = 20.0, 20.0, 20.0
    tokens = np.asarray(draw_jit(jax.random.key(1), x, Sampling())[0])
    assert set(np.unique(tokens[:20])) == {2}
    assert set(np.unique(tokens[20:])) == {5, 6}
    both = tokens[20:] == 5
    assert 0.4 < both.mean() < 0.6
    assert len(np.unique(both, axis=0)) == 20  # no two rows drew the same numbers


def test_the_key_decides(logits):
    x = np.broadcast_to(logits, (64, V))
    draws = (draw_jit(jax.random.key(i), x, Sampling())[0] for i in (0, 0, 1))
    one, again, other = map(np.asarray, draws)
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.8


@pytest.mark.parametrize("top", [{}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
def test_temperature_0_takes_the_likeliest(logits, top):
    x = np.stack([logits, -logits, np.zeros(V, np.float32)])
    tokens, logp = draw_jit(jax.random.key(0), x, Sampling(temperature=0.0, **top))
    np.testing.assert_array_equal(tokens, [logits.argmax(), logits.argmin(), 0])
    np.testing.assert_array_equal(logp, 0.0)
    assert tokens.dtype == jnp.int32 and logp.dtype == jnp.float32


@pytest.mark.parametrize("setting", [Sampling(), Sampling(top_k=2), Sampling(top_p=0.9)], ids=str)
@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, V - 1])
def test_one_extreme_logit(setting, at):
    x = np.zeros((200, V), np.float32)
    x[:, at] = 1e4
    for shift in (0.0, 1e4, -1e5):
        tokens, logp = draw_jit(jax.random.key(0), x + np.float32(shift), setting)
        np.testing.assert_array_equal(tokens, at)
        np.testing.assert_array_equal(logp, 0.0)


def test_the_edges_of_the_unit_interval(monkeypatch, logits):
    """Uniform numbers of 0 and just below 1 draw the first and the last token with mass."""
    x = logits.copy()
    x[:3], x[-100:] = -np.inf, -np.inf
    for u, want in ((0.0, 3), (1 - 2**-24, V - 101)):
        monkeypatch.setattr(jax.random, "uniform", lambda _, shape, u=u: jnp.full(shape, u))
        token, logp = jax.jit(lambda key: draw(key, x, Sampling()))(jax.random.key(0))
        assert int(token) == want
        assert np.isfinite(logp)


def test_rounding_never_draws_what_has_no_mass(monkeypatch):
    """A parallel cumulative sum rises, by rounding, also where nothing is added."""
    blocks = 1024
    mass = np.exp(np.random.default_rng(0).normal(0, 2, blocks)).astype(np.float32)
    mass[np.random.default_rng(1).random(blocks) < 0.5] = 0.0
    mass /= mass.max()
    cdf = np.asarray(jnp.cumsum(mass))
    total, bad = cdf[-1], []
    for i in np.flatnonzero((mass[1:] == 0) & (np.diff(cdf) > 0)) + 1:
        u = np.float32(cdf[i - 1] / total)
        if cdf[i - 1] <= np.float32(u * total) < cdf[i]:
            bad.append(u)
    assert bad, "this sum does not round: the test shows nothing"
    x = np.full((blocks, BLOCK), -np.inf, np.float32)  # the mass of a block lies on one token
    with np.errstate(divide="ignore"):
        x[:, 5] = np.log(mass)
    x = jnp.asarray(np.broadcast_to(x.ravel(), (len(bad), blocks * BLOCK)))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.asarray(bad))
    tokens, logp = draw(jax.random.key(0), x, Sampling())
    assert np.isfinite(logp).all()
    assert (mass[np.asarray(tokens) // BLOCK] > 0).all()
    assert (np.asarray(tokens) % BLOCK == 5).all()


def test_the_last_token_with_mass_takes_the_rest():
    """The sum of a block and its own cumulative sum may round differently."""
    mass = np.float32([0.0, 0.25, 0.5, 0.0])
    jitted = jax.jit(sampling._invert)
    invert = lambda target: int(jitted(mass, mass.cumsum(), np.float32(target)))
    assert [invert(t) for t in (-1e-9, 0.0, 0.24, 0.25, 0.74, 0.75, 0.8)] == [1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -0.1, "temperature: must be 0 or from"),
        ("top_k", -1, "top_k: must be at least 0"),
        ("top_p", 0.0, r"top_p: must be in \(0, 1\]"),
        ("top_p", 1.1, r"top_p: must be in \(0, 1\]"),
    ],
)
def test_settings_out_of_range(field, value, message):
    with pytest.raises(InputError, match=message):
        Sampling(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(
            ("temperature", value, "temperature: must be 0 or from 1e-06 to 1e[+]06")
            for value in (float("nan"), float("inf"), 1e39, 1e-31, 5e-324, "0.5", None, True)
        ),
        ("top_k", 2.0, "top_k: must be an integer"),
        ("top_k", float("nan"), "top_k: must be an integer"),
        ("top_k", True, "top_k: must be an integer"),
        ("top_p", float("nan"), r"top_p: must be in \(0, 1\]"),
        ("top_p", "1", r"top_p: must be in \(0, 1\]"),
    ],
)
def test_settings_that_are_no_such_numbers(field, value, message):
    with pytest.raises(InputError, match=message):
        Sampling(**{field: value})


@pytest.mark.parametrize(
    "setting",
    [
        Sampling(temperature=0.0),
        Sampling(temperature=1e-6),
        Sampling(temperature=0.7, top_k=3),
        Sampling(),
        Sampling(temperature=1e6, top_p=0.9),
    ],
    ids=str,
)
def test_an_infinite_logit_is_certain(setting):
    rows = np.random.default_rng(3).normal(size=(2, V)).astype(np.float32)
    rows[0, 300], rows[1, 7] = np.inf, np.inf
    rows[1, :5] = -np.inf
    tokens, logp = draw_jit(jax.random.key(0), rows, setting)
    np.testing.assert_array_equal(tokens, [300, 7])
    np.testing.assert_array_equal(logp, 0.0)
    chance = np.exp(jax.device_get(jax.jit(log_probs, static_argnums=1)(rows, setting)))
    np.testing.assert_array_equal(chance, np.where(np.isposinf(rows), 1.0, 0.0))


@pytest.mark.parametrize("temperature", [1e-6, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_a_low_temperature_takes_the_likeliest(temperature, scale):
    """Of logits whose differences are large beside the temperature."""
    logits = scale * np.random.default_rng(3).permutation(V).astype(np.float32)[None]
    setting = Sampling(temperature=temperature)
    tokens, logp = jax.device_get(draw_jit(jax.random.key(0), logits, setting))
    assert tokens[0] == logits.argmax() and np.isfinite(logp[0])


def test_a_key_for_each_row_draws_as_it_would_alone():
    keys = jax.random.split(jax.random.key(3), 4)
    logits = np.random.default_rng(0).normal(size=(4, 5, 300)).astype(np.float32)
    tokens, logp = jax.device_get(draw_jit(keys, logits, Sampling()))
    for row in range(4):
        alone, own = draw_jit(keys[row], logits[row], Sampling())
        np.testing.assert_array_equal(tokens[row], alone)
        np.testing.assert_allclose(logp[row], own, rtol=1e-5)
