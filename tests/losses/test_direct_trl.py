"""The losses against those of TRL 1.16.0, formula by formula, on random log-probs.

TRL computes them inside its trainers, on sums over completions; the formulas of
`DPOTrainer._compute_loss`, `KTOTrainer._compute_loss`, `CPOTrainer.cpo_loss`,
`ORPOTrainer.odds_ratio_loss` and `TPOTrainer._compute_loss` are written out here in
NumPy float64, with TRL's names for what differs from ours.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.weights import density_ratio
from irl_jax.losses.direct import dpo, ipo
from irl_jax.losses.direct_named import (
    cdpo,
    discopop,
    exo,
    f_dpo,
    js_dpo,
    ld_dpo,
    ln_dpo,
    robust_dpo,
    slic,
)
from irl_jax.losses.direct_variants import apo_down, apo_zero, nca, sppo, wpo
from irl_jax.losses.listwise import tpo
from irl_jax.losses.reference_free import alphapo, cpo, orpo, simpo
from irl_jax.losses.scores import (
    mean_log_ratio,
)
from irl_jax.losses.transport import aot, aot_unpaired
from irl_jax.losses.unpaired import bco, each_side, kto
from irl_jax.types import Preference, Ranking, Rating

B, T, BETA, EPS = 6, 5, 0.4, 0.15
RNG = np.random.default_rng(1)
LENGTH = RNG.integers(1, T + 1, (B, 2))
MASK = np.arange(T) < LENGTH[..., None]
LOGP, REF = (-1.5 + 0.6 * RNG.standard_normal((B, 2, T)) for _ in range(2))
COLLISION = -1.0 + 0.3 * RNG.standard_normal((B, 2, T))
PAIRS = Preference(None, None, MASK, margin=np.zeros(B), weight=np.ones(B))

chosen, rejected = (LOGP * MASK).sum(-1).T  # TRL: chosen_logps, rejected_logps
ref_chosen, ref_rejected = (REF * MASK).sum(-1).T
c, r = chosen - ref_chosen, rejected - ref_rejected  # TRL: chosen_logratios, ...
mean_c, mean_r = (c, r) / LENGTH.T
own_c, own_r = (chosen, rejected) / LENGTH.T
delta = c - r
log_s = lambda x: -np.log1p(np.exp(-x))
s = lambda x: 1 / (1 + np.exp(-x))


def cdpo_trl(z):
    return -log_s(z) * (1 - EPS) - log_s(-z) * EPS


def discopop_trl(z, tau=0.05):
    return -log_s(z) * (1 - s(z / tau)) + np.exp(-z) * s(z / tau)


def exo_trl(z):
    return s(z) * (log_s(z) - np.log1p(-EPS)) + s(-z) * (log_s(-z) - np.log(EPS))


def shared(alpha):
    """`ld_alpha`: the tail beyond the shorter response counts alpha."""
    inside = np.arange(T) < LENGTH.min(-1)[:, None, None]
    each = (LOGP - REF) * MASK
    both = (each * inside).sum(-1) + alpha * (each * ~inside).sum(-1)
    return both[:, 0] - both[:, 1]


def log_odds():
    return own_c - own_r - (np.log(-np.expm1(own_c)) - np.log(-np.expm1(own_r)))


def alpha_rewards(a):
    return (1 - np.exp(own_c) ** -a) / a - (1 - np.exp(own_r) ** -a) / a


def wpo_weight():
    """`chosen_weights` and `rejected_weights`."""
    return np.exp(((LOGP - COLLISION) * MASK).sum(-1) / LENGTH)


PAIRED = {  # name -> (ours, TRL's per_sequence_loss)
    "sigmoid": (partial(dpo, beta=BETA), -log_s(BETA * delta)),
    "label_smoothing": (partial(cdpo, beta=BETA, label_smoothing=EPS), cdpo_trl(BETA * delta)),
    "hinge": (partial(slic, beta=BETA), np.maximum(0, 1 - BETA * delta)),
    "ipo": (
        partial(ipo, tau=BETA, score=mean_log_ratio),
        (mean_c - mean_r - 1 / (2 * BETA)) ** 2,
    ),
    "exo_pair": (partial(exo, beta=BETA, epsilon=EPS), exo_trl(BETA * delta)),
    "nca_pair": (
        partial(nca, beta=BETA),
        -log_s(BETA * c) - 0.5 * log_s(-BETA * c) - 0.5 * log_s(-BETA * r),
    ),
    "robust": (
        partial(robust_dpo, beta=BETA, flip_rate=EPS),
        (-(1 - EPS) * log_s(BETA * delta) + EPS * log_s(-BETA * delta)) / (1 - 2 * EPS),
    ),
    "sppo_hard": (
        partial(sppo, win=np.tile([1.0, 0.0], (B, 1)), eta=1 / BETA),
        (c - 0.5 / BETA) ** 2 + (r + 0.5 / BETA) ** 2,
    ),
    "aot": (
        partial(aot, beta=BETA),
        -log_s(BETA * (np.sort(chosen - rejected) - np.sort(ref_chosen - ref_rejected))),
    ),
    "apo_down": (partial(apo_down, beta=BETA), s(BETA * c) + 1 - s(BETA * delta)),
    "discopop": (partial(discopop, beta=BETA, temperature=0.05), discopop_trl(BETA * delta)),
    "sigmoid_norm": (partial(ln_dpo, beta=BETA), -log_s(BETA * (mean_c - mean_r))),
    "ld_alpha": (partial(ld_dpo, beta=BETA, alpha=0.3), -log_s(BETA * shared(0.3))),
    "use_weighting": (
        partial(wpo, beta=BETA, share=wpo_weight(), cap=1.0),
        np.minimum(wpo_weight().prod(-1), 1.0) * -log_s(BETA * delta),
    ),
    "forward_kl": (partial(f_dpo, beta=BETA, alpha=1.0), -log_s(BETA * (np.exp(-r) - np.exp(-c)))),
    "js_divergence": (partial(js_dpo, beta=BETA), -log_s(BETA * (log_s(c) - log_s(r)))),
    # TRL's alpha is 1 minus ours: f'(t) = (t^(α-1) - 1) / (α - 1)
    "alpha_divergence": (
        partial(f_dpo, beta=BETA, alpha=0.6),
        -log_s(BETA * (np.exp(-0.6 * c) - np.exp(-0.6 * r)) / -0.6),
    ),
    # halves: a mean over responses where TRL adds the two of a pair
    "bco_pair": (
        partial(each_side(bco), beta=BETA, delta=0.0),
        0.5 * (-log_s(BETA * c) - log_s(-BETA * r)),
    ),
    "apo_zero": (partial(apo_zero, beta=BETA), 1 - s(BETA * c) + s(BETA * r)),
    "apo_zero, each side": (
        partial(each_side(kto), beta=BETA, kl=0.0, good=1.0, bad=1.0),
        0.5 * (1 - s(BETA * c) + s(BETA * r)),
    ),
    "kto": (
        partial(each_side(kto), beta=BETA, kl=0.3, good=1.2, bad=0.8),
        0.5 * (1.2 * (1 - s(BETA * (c - 0.3))) + 0.8 * (1 - s(BETA * (0.3 - r)))),
    ),
    "aot_unpaired": (
        partial(each_side(aot_unpaired), beta=BETA),
        -log_s(BETA * (np.sort(c) - np.sort(r))),
    ),
}
UNPAIRED = {  # name -> (ours, TRL's)
    "cpo": (
        partial(cpo, beta=BETA, alpha=0.0),
        -log_s(BETA * (chosen - rejected)),
    ),
    "simpo": (
        partial(simpo, beta=2.0, gamma=0.5),
        -log_s(2.0 * (own_c - own_r - 0.5 / 2.0)),
    ),
    "alphapo": (
        partial(alphapo, beta=2.0, gamma=0.5, alpha=0.25),
        -log_s(2.0 * (alpha_rewards(0.25) - 0.5 / 2.0)),
    ),
    "orpo": (partial(orpo, lam=0.3), -own_c - 0.3 * log_s(log_odds())),
}


@pytest.mark.parametrize("name", PAIRED)
def test_with_a_reference(name):
    ours, theirs = PAIRED[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(LOGP, REF, PAIRS).mean, theirs.mean(), rtol=1e-9)


@pytest.mark.parametrize("name", UNPAIRED)
def test_without_a_reference(name):
    ours, theirs = UNPAIRED[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(LOGP, PAIRS).mean, theirs.mean(), rtol=1e-9)


def test_tpo_with_a_gold_response_of_one_length():
    """TRL averages the gold likelihood over a batch's tokens; of one length, over responses."""
    logp = np.concatenate([REF[:, :1], LOGP], 1)
    mask = np.concatenate([np.ones([B, 1, T], bool), MASK], 1)
    batch = Ranking(None, None, mask, np.full(B, 3), np.ones(B))
    with jax.enable_x64(True):
        loss = tpo(logp, batch, beta=2.0, gamma=0.5, alpha=0.7, score=mean_log_ratio).mean
    theirs = -log_s(2.0 * (own_c - own_r - 0.25)).mean() - 0.7 * REF[:, 0].mean()
    np.testing.assert_allclose(loss, theirs, rtol=1e-9)


def test_bco_with_its_underlying_distributions_matched():
    """`BCOTrainer.bco_loss` and `_get_udm_weight` of TRL 0.x, which 1.16 no longer has."""
    chance = RNG.uniform(0.02, 0.98, B)  # prob_desirable of the prompts of bad responses
    udm = np.clip(chance / (1 - chance + 1e-8), 0.5, 10.0)
    theirs = np.concatenate([-log_s(BETA * c - 0.3), udm * -log_s(-(BETA * r - 0.3))])
    score = np.tile([1.0, 0.0], B)
    with jax.enable_x64(True):
        ratio = density_ratio(np.log(chance / (1 - chance)), low=0.5, high=10.0)
        weight = np.stack([np.ones(B), ratio], 1).reshape(-1)
        flat = lambda x: x.reshape(-1, T)
        batch = Rating(None, None, flat(MASK), score, weight)
        loss = bco(flat(LOGP), flat(REF), batch, beta=BETA, delta=0.3)
    np.testing.assert_allclose(loss.total, theirs.sum(), rtol=1e-7)
    np.testing.assert_allclose(loss.weight, B + udm.sum(), rtol=1e-7)


def test_aot_unpaired_with_unequal_numbers():
    """Where good and bad are as many, sorting; a response given twice changes nothing."""
    good, bad = jnp.asarray(c, jnp.float32), jnp.asarray(r, jnp.float32)

    def loss(good, bad):
        logp = jnp.concatenate([good, bad])[:, None]
        score = jnp.concatenate([jnp.ones_like(good), jnp.zeros_like(bad)])
        batch = Rating(None, None, logp < jnp.inf, score, jnp.ones_like(score))
        return aot_unpaired(logp, jnp.zeros_like(logp), batch, beta=BETA).mean

    same = -log_s(BETA * (np.sort(c) - np.sort(r))).mean()
    np.testing.assert_allclose(loss(good, bad), same, rtol=1e-5)
    np.testing.assert_allclose(loss(jnp.tile(good, 2), bad), same, rtol=1e-5)
