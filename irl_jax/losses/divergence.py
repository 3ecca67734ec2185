"""f-divergences between demonstrations and a policy's own samples, from a discriminator.

D_f(p‖q) = Σ q f(p/q), p the distribution of demonstrations and q that of the policy, is
the largest value of E_p[T] − E_q[f*(T)] over functions T of a trajectory, and the best T
is f'(p/q). A divergence is therefore its generator f; a discriminator trained on the bound
knows the ratio p/q, and rewards are made of it: log p/q itself (AIRL), `gail`, `fairl`, or
`FDivergence.reward`, by which a policy lowers the divergence (f-MAX).

Alignment from demonstrations (AfD) is one choice of what to tell apart. Forward
KL(p‖q) to the policy itself is `losses.demonstration.nll`. The other divergences need a
reward: `losses.rating.binary_cross_entropy` on the batch that `discriminator_batch` makes, with
samples of the initial policy as negatives. Its mean is `variational` with `JENSEN_SHANNON` plus
log 2: the same gradients, and at its least log 2 − ½ D_f, where ½ D_f = ½ KL(p‖m) + ½ KL(q‖m) is
the Jensen-Shannon divergence as it is usually defined, m the mean of p and q. As positives
the paper prefers samples of the fine-tuned policy to demonstrations, so that authorship
cannot be told from style; the optimum is then log π_SFT − log π_init, a sum of
`rewards.implicit.token_reward` that needs no training.

Total variation is left out: its best T is the sign of p − q, which gives neither a ratio
nor a gradient.

Reference: Nguyen, Wainwright & Jordan 2010, "Estimating divergence functionals and the
likelihood ratio by convex risk minimization", arXiv 0809.0853; Sun & van der Schaar 2024,
"Inverse-RLignment: Large Language Model Alignment from Demonstrations through Inverse
Reinforcement Learning", arXiv 2405.15624; Fu, Luo & Levine 2017, "Learning Robust
Rewards with Adversarial Inverse Reinforcement Learning", arXiv 1710.11248.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from irl_jax.losses.ratio import tangent_expm1
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Rating, safe_divide

LIMIT = 30.0  # nats; beyond it an exponential goes on as its tangent


def _exp(x: Array) -> Array:
    """exp(x) up to `LIMIT`, then its tangent: convex, finite, never without a gradient."""
    inside = jnp.minimum(x, LIMIT)
    return jnp.exp(inside) * (1.0 + x - inside)


@dataclass(frozen=True)
class FDivergence:
    """A divergence as its generator f, and how a discriminator's logit v enters its bound.

    Attributes:
        name: of the divergence.
        generator: f, from ratios to costs; convex, f(1) = 0.
        activation: g, from logits to T in the domain of f*; increasing.
        conjugate: v -> f*(g(v)), f* the Fenchel conjugate of f.
        log_ratio: v -> log p/q of the T that g(v) is, log (f*)'(g(v)); increasing.
        logit: log p/q -> v, its inverse.
    """

    name: str
    generator: Callable[[Array], Array]
    activation: Callable[[Array], Array]
    conjugate: Callable[[Array], Array]
    log_ratio: Callable[[Array], Array]
    logit: Callable[[Array], Array]

    def __call__(self, ratio: Array) -> Array:
        """f(u) of ratios u = p/q, f32[...]."""
        return self.generator(ratio)

    def reward(self, log_ratio: Array) -> Array:
        """r = f*(f'(u)) = u f'(u) − f(u), u = p/q: −∂D_f(p‖q)/∂q, and so the reward of f-MAX.

        A policy that gains by it goes down D_f(p‖q), as long as the discriminator keeps up. KL
        has u, reverse KL log u − 1, Jensen-Shannon the `gail` of b = 0 less log 2, Pearson u² − 1.

        Args:
            log_ratio: log u, f32[...], nats; of whatever discriminator.

        Reference: Ghasemipour, Zemel & Gu 2019, "A Divergence Minimization Perspective on
        Imitation Learning Methods", arXiv 1911.02256 (f-MAX).

        Example:
            >>> KL.reward(jnp.log(jnp.array([0.5, 4.0]))).tolist()
            [0.5, 4.0]
        """
        return self.conjugate(self.logit(log_ratio))


KL = FDivergence(
    "KL",
    generator=lambda u: xlogy(u, u),
    activation=lambda v: v,
    conjugate=lambda v: _exp(v - 1.0),
    log_ratio=lambda v: v - 1.0,
    logit=lambda x: x + 1.0,
)
REVERSE_KL = FDivergence(
    "reverse KL",
    generator=lambda u: -jnp.log(u),
    activation=lambda v: -_exp(-v),
    conjugate=lambda v: v - 1.0,
    log_ratio=lambda v: v,
    logit=lambda x: x,
)
JENSEN_SHANNON = FDivergence(  # KL(p‖m) + KL(q‖m), m their mean: twice the divergence
    "Jensen-Shannon",
    generator=lambda u: xlogy(u, u) - xlogy(u + 1.0, 0.5 * (u + 1.0)),
    activation=lambda v: math.log(2.0) - jax.nn.softplus(-v),
    conjugate=lambda v: jax.nn.softplus(v) - math.log(2.0),
    log_ratio=lambda v: v,
    logit=lambda x: x,
)
SQUARED_HELLINGER = FDivergence(
    "squared Hellinger",
    generator=lambda u: (jnp.sqrt(u) - 1.0) ** 2,
    activation=lambda v: 1.0 - _exp(-v),
    conjugate=lambda v: _exp(v) - 1.0,
    log_ratio=lambda v: 2.0 * v,
    logit=lambda x: 0.5 * x,
)
PEARSON = FDivergence(  # Σ (p − q)² / q
    "Pearson chi-squared",
    generator=lambda u: (u - 1.0) ** 2,
    activation=lambda v: v,
    conjugate=lambda v: 0.25 * v**2 + v,
    log_ratio=lambda v: jnp.log(jnp.maximum(1.0 + 0.5 * v, math.exp(-LIMIT))),
    logit=lambda x: 2.0 * (_exp(x) - 1.0),
)
DIVERGENCES = (KL, REVERSE_KL, JENSEN_SHANNON, SQUARED_HELLINGER, PEARSON)


def alpha_divergence(alpha: float) -> FDivergence:
    """f(u) = (u^α − αu + α − 1) / α(α − 1): KL at α = 1, reverse KL at 0, ½ Pearson at 2.

    Args:
        alpha: α; above 1 it is infinite where the policy never is, below 0 where the demonstrations
            never are. At ½ it is twice the squared Hellinger distance.

    Reference: Minka 2005, "Divergence measures and message passing", section 2.

    Example:
        >>> round(float(alpha_divergence(2.0)(jnp.array(3.0))), 4)  # ½ (3 − 1)²
        2.0
    """
    return FDivergence(
        f"alpha {alpha:g}",
        generator=lambda u: u * _power(jnp.log(u), alpha - 1.0) - _power(jnp.log(u), alpha),
        activation=lambda v: _power(v, alpha - 1.0),
        conjugate=lambda v: _power(v, alpha),
        log_ratio=lambda v: v,
        logit=lambda x: x,
    )


def _power(v: Array, k: float) -> Array:
    """(exp(kv) − 1)/k, v at k = 0, and its tangent where kv is beyond `LIMIT`."""
    return v if k == 0 else tangent_expm1(k * v, LIMIT) / k


def discriminator_batch(demonstrated: Array, counts: Array | None = None) -> Rating:
    """Demonstrations (score 1) against a policy's own samples (0), without tokens.

    Args:
        demonstrated: bool[N].
        counts: bool[N], the rows that take part: the mask, of single steps. All by default.

    Returns:
        N ratings; their weights add to N, half of it on each side, so that a
        discriminator learns p/q and not also how many of each there are.

    Example:
        >>> discriminator_batch(jnp.array([True, False, False, False, False])).weight.tolist()
        [2.5, 0.625, 0.625, 0.625, 0.625]
    """
    check_mask("demonstrated", demonstrated, (None,))
    if counts is not None:
        check_mask("counts", counts, demonstrated.shape)
    score = demonstrated.astype(jnp.float32)
    own = jnp.ones_like(score) if counts is None else counts.astype(jnp.float32)
    half = 0.5 * demonstrated.shape[0]
    side = lambda x: safe_divide(half * x, x.sum())
    weight = side(own * score) + side(own * (1.0 - score))
    absent: Any = None
    return Rating(absent, absent, absent, score=score, weight=weight)


def variational(logit: Array, batch: Rating, *, divergence: FDivergence) -> Loss:
    """The variational bound of an f-divergence, to be learned by a discriminator.

    L = −Σᵢ wᵢ (sᵢ g(vᵢ) − (1 − sᵢ) f*(g(vᵢ))) / Σᵢ wᵢ. Where both sides weigh the same,
    as `discriminator_batch` has it, L is at least −½ D_f(p‖q), and at its least v tells log p/q.

    Args:
        logit: v, f32[N]. Rows of weight 0 may be NaN.
        batch: `score` s is 1 for a demonstration, 0 for a sample of the policy. For a
            discriminator of single steps, the rows are the steps of all trajectories
            and their mask is the weight.
        divergence: f, one of `DIVERGENCES`.

    Returns:
        Loss a row. Metrics: `expert` E_p[g(v)] and `policy` E_q[f*(g(v))], whose
        difference is the bound whatever the weights of the sides; `accuracy` of
        log p/q > 0 (0 counts one half).

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Nowozin, Cseke & Tomioka 2016, "f-GAN: Training Generative Neural Samplers
    using Variational Divergence Minimization", arXiv 1606.00709, eq. 4-6, tables 1 and 2.

    Differs: an exponential goes on as its tangent beyond `LIMIT`.

    Example:
        >>> batch = discriminator_batch(jnp.array([True, False]))
        >>> loss = variational(jnp.zeros(2), batch, divergence=SQUARED_HELLINGER)
        >>> float(loss.mean)  # p = q, as far as logits of 0 can tell
        0.0
    """
    logit = as_float("logit", logit, (None,))
    score = as_float("batch.score", batch.score, logit.shape)
    weight = as_float("batch.weight", batch.weight, logit.shape)
    logit, score = jnp.where(weight > 0, logit, 0.0), jnp.where(weight > 0, score, 0.0)
    expert = weighted(divergence.activation(logit), weight * score)
    policy = weighted(divergence.conjugate(logit), weight * (1.0 - score))
    side = jnp.sign(divergence.log_ratio(logit)) * jnp.where(score > 0.5, 1.0, -1.0)
    metrics = {
        "expert": expert,
        "policy": policy,
        "accuracy": weighted(0.5 * (1.0 + side), weight),
    }
    return Loss(policy[0] - expert[0], weight.sum(), metrics)


def gail(log_ratio: Array, *, b: float | Array = 0.0) -> Array:
    """r = b log D − (1 − b) log(1 − D), D = σ(log p/q) the probability of a demonstration.

    The sign decides tasks by itself, where episodes end: −log(1 − D) > 0 of b = 0 rewards an
    episode that goes on, log D < 0 of b = 1 one that ends. b = ½ is half of log p/q.

    Args:
        log_ratio: f32[...], nats.
        b: in [0, 1].

    Reference: Ho & Ermon 2016, "Generative Adversarial Imitation Learning", arXiv
    1606.03476; Kostrikov et al. 2018, arXiv 1809.02925 (what the sign does).
    Differs: D of Ho & Ermon is the probability of the policy.
    """
    check_range("b", b, 0.0, 1.0)
    return (1.0 - b) * jax.nn.softplus(log_ratio) - b * jax.nn.softplus(-log_ratio)


def fairl(log_ratio: Array) -> Array:
    """−(p/q) log p/q, whose mean under the policy is −KL(p‖q); at most 1/e, at p/q = 1/e.

    It falls with p/q from there on, and KL.reward, of the gradient of −KL(p‖q), rises throughout.

    Args:
        log_ratio: f32[...], nats.

    Reference: Ghasemipour, Zemel & Gu 2019, arXiv 1911.02256 (FAIRL). Differs: the
    exponential goes on as its tangent beyond `LIMIT`.
    """
    return -log_ratio * _exp(log_ratio)


def f_max(log_ratio: Array, *, alpha: float) -> Array:
    """r = f*(f′(p/q)), the term by which a policy lowers the bound of the α-divergence.

    r = (uᵅ − 1)/α, u = p/q; at α = 0 that is log u. The smaller α, the more it costs to do what is
    never demonstrated; the larger, the more it pays to do what is rarely tried.

    Args:
        log_ratio: log u, f32[...], nats.
        alpha: α of `alpha_divergence`.

    Reference: Ghasemipour, Zemel & Gu 2019, arXiv 1911.02256 (f-MAX). Differs: the exponential
    goes on as its tangent beyond `LIMIT`.

    Example:
        >>> f_max(jnp.log(jnp.array([1.0, 4.0])), alpha=0.5).tolist()
        [0.0, 2.0]
    """
    return alpha_divergence(alpha).reward(log_ratio)
