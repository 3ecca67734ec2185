"""Which comparisons to have labelled next: acquisition functions over a pool of pairs.

A pool holds N pairs of responses, some of them labelled. A rule either scores every
pair for itself, and `highest` takes the best (`entropy`, `bald`, `leverage`, the
absolute logit, uniform noise), or it looks at the batch as a whole, since two pairs that
are informative alone may say the same (`d_optimal`, `k_centre`, `batch_bald`).

The logit of a pair is the predicted difference of rewards, r(y₁) − r(y₂), and its change
φ(y₁) − φ(y₂) the difference of the features of a last, linear layer, such as
`EmbeddingReward.last_layer`. Shapes are fixed and every function is pure, so that
`jax.vmap` runs many pools at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from irl_jax.masking import check_mask, check_range, check_shape
from irl_jax.types import InputError


def highest(score: Array, labelled: Array, *, size: int) -> Array:
    """The pairs with the highest scores among those without a label.

    Args:
        score: f32[N]; `jax.random.uniform` chooses at random, |logit| what the reward
            is surest of.
        labelled: bool[N], pairs that are not to be chosen again; at least `size` others
            must be left.
        size: pairs to choose.

    Returns:
        i32[size], rows of the pool, the highest first.

    Raises:
        InputError: shapes differ, or the pool has fewer than `size` pairs.

    Example:
        >>> highest(jnp.array([0.3, 0.9, 0.5]), jnp.array([False, True, False]), size=1).tolist()
        [2]
    """
    _check_pool(labelled, size)
    check_shape("score", score, labelled.shape)
    return jax.lax.top_k(jnp.where(labelled, -jnp.inf, score), size)[1]


def entropy(logit: Array) -> Array:
    """Entropy of the predicted label, H(σ(z)) = log(1 + e⁻ᶻ) + z σ(−z) (nats).

    Highest where the two rewards are equal.

    Args:
        logit: f32[...], z.

    Returns:
        f32[...], nats.

    Reference: Settles 2009, "Active Learning Literature Survey" (uncertainty sampling).
    """
    z = jnp.abs(logit)
    return jax.nn.softplus(-z) + z * jax.nn.sigmoid(-z)


def bald(logit: Array) -> Array:
    """What a label says about which member is right: H(E[p]) − E[H(p)] (nats).

    The mutual information of label and member, at most log M. Unlike `entropy` it is 0
    where all members agree that a label is a toss-up.

    Args:
        logit: f32[M, ...], of each member of an ensemble.

    Returns:
        f32[...], nats.

    Reference: Houlsby et al. 2011, "Bayesian Active Learning for Classification and
    Preference Learning", arXiv 1112.5745.
    """
    both = jnp.stack([jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)])
    return _label_entropy(both.mean(1)) - entropy(logit).mean(0)


def information(change: Array, logit: Array, weight: Array) -> Array:
    """Fisher information of labels about the last layer, Σᵢ wᵢ pᵢ (1 − pᵢ) Δφᵢ Δφᵢᵀ.

    Args:
        change: f32[N, F], Δφ.
        logit: f32[N]; p = σ(logit).
        weight: f32[N] or bool[N], such as which pairs are labelled.

    Returns:
        f32[F, F], in units of the inverse square of the last layer's weights.

    Reference: Shen, Sun & Ton 2025, "Active Reward Modeling: Adaptive Preference Labeling
    for Large Language Model Alignment", arXiv 2502.04354.
    """
    scaled = _scaled(change, logit)
    return (scaled * weight[:, None]).T @ scaled


def leverage(change: Array, logit: Array, precision: Array) -> Array:
    """What one label adds to the information, p (1 − p) Δφᵀ Λ⁻¹ Δφ.

    log det(Λ + p (1 − p) Δφ Δφᵀ) − log det Λ = log(1 + leverage). With the information
    of the whole pool in Λ, its highest scores are the gradient of the log-determinant
    by the pairs' weights, the batch rule in the code of the reference.

    Args:
        change: f32[N, F], Δφ.
        logit: f32[N]; p = σ(logit).
        precision: f32[F, F], Λ, positive definite: a prior, and `information`.

    Returns:
        f32[N].

    Reference: Shen, Sun & Ton 2025, arXiv 2502.04354, and its code (`dopt_rule` in
    YunyiShen/ARM-FI).
    """
    return (_whitened(change, logit, precision) ** 2).sum(-1)


def d_optimal(
    change: Array, logit: Array, precision: Array, labelled: Array, *, size: int
) -> Array:
    """The batch whose labels shrink the last layer's uncertainty most, chosen greedily.

    maximise log det(Λ + Σᵢ pᵢ (1 − pᵢ) Δφᵢ Δφᵢᵀ) over batches, one pair after the other.
    The gain is submodular, so that the greedy batch has at least 1 − 1/e of the best
    one's. A step is a rank-one update of Λ⁻¹, O(F² + N F).

    Args:
        change: f32[N, F], Δφ.
        logit: f32[N]; p = σ(logit).
        precision: f32[F, F], Λ, positive definite: a prior, such as λI; with the
            `information` of the labelled pairs the rule knows of the past.
        labelled: bool[N], pairs that are not to be chosen again.
        size: pairs to choose.

    Returns:
        i32[size], rows of the pool, in the order they were chosen.

    Raises:
        InputError: shapes differ, or the pool has fewer than `size` pairs.

    Reference: Shen, Sun & Ton 2025, arXiv 2502.04354 (D-opt, and PA D-opt with the past).

    Differs: their code takes the pairs of the highest `leverage` at once, under the
    information of the whole pool; here every choice counts what the batch already has.
    """
    _check_pool(labelled, size)
    white = _whitened(change, logit, precision)
    inverse = jnp.eye(white.shape[1], dtype=white.dtype)

    def pick(carry: tuple, _: None) -> tuple[tuple, Array]:
        inverse, gain, taken = carry
        i = jnp.argmax(jnp.where(taken, -jnp.inf, gain))
        step = inverse @ white[i] / jnp.sqrt(1.0 + white[i] @ inverse @ white[i])
        inverse = inverse - jnp.outer(step, step)
        return (inverse, gain - (white @ step) ** 2, taken.at[i].set(True)), i

    start = (inverse, (white**2).sum(-1), labelled)
    return jax.lax.scan(pick, start, length=size)[1]


def k_centre(points: Array, labelled: Array, *, size: int) -> Array:
    """A batch that leaves no pair far from a labelled one: greedy k-centre.

    Each choice is the pair farthest from all that are labelled or chosen. A pair and its
    mirror image are one comparison, d(x, y) = min(‖x − y‖, ‖x + y‖), and a pair of equals,
    the origin, needs no label.

    Args:
        points: f32[N, F], a place for each pair, such as Δφ.
        labelled: bool[N], pairs that are covered; where there are none the longest
            vector is chosen first.
        size: pairs to choose.

    Returns:
        i32[size], rows of the pool, in the order they were chosen. Needs N² numbers.

    Raises:
        InputError: shapes differ, or the pool has fewer than `size` pairs.

    Reference: Sener & Savarese 2017, "Active Learning for Convolutional Neural Networks: A
    Core-Set Approach", arXiv 1708.00489 (k-centre greedy).

    Differs: the distance, which knows that a pair has no order; the origin. The coresets in
    the code of Shen, Sun & Ton 2025 are for logistic regression, by k-means.
    """
    _check_pool(labelled, size)
    check_shape("points", points, (*labelled.shape, None))
    square = (points**2).sum(-1)
    distance = square[:, None] + square - 2.0 * jnp.abs(points @ points.T)
    nearest = jnp.minimum(square, jnp.where(labelled[:, None], distance, jnp.inf).min(0))

    def pick(nearest: Array, _: None) -> tuple[Array, Array]:
        i = jnp.argmax(nearest)
        return jnp.minimum(nearest, distance[i]).at[i].set(-jnp.inf), i

    return jax.lax.scan(pick, jnp.where(labelled, -jnp.inf, nearest), length=size)[1]


def batch_bald(logit: Array, labelled: Array, key: Array, *, size: int, samples: int) -> Array:
    """The batch whose labels say most about which member is right, chosen greedily.

    maximise I(ℓ₁, …, ℓ_b; m) by the chain rule: the labels of what is chosen are imagined,
    the belief about the members m follows them, and the next pair is the one of highest
    E[H(Σ_m w_m p_m)] − 1/M Σ_m H(p_m). The information is at most log M: once the members
    are told apart, all pairs look alike to this rule.

    Args:
        logit: f32[M, N], of each member of an ensemble.
        labelled: bool[N], pairs that are not to be chosen again.
        key: typed PRNG key.
        size: pairs to choose.
        samples: imagined sequences of labels.

    Returns:
        i32[size], rows of the pool, in the order they were chosen; the first has the
        highest `bald`.

    Raises:
        InputError: shapes differ, or the pool has fewer than `size` pairs.

    Reference: Kirsch, van Amersfoort & Gal 2019, "BatchBALD: Efficient and Diverse Batch
    Acquisition for Deep Bayesian Active Learning", arXiv 1906.08158.

    Differs: labels are always sampled, also where a batch is small enough for all of their
    sequences to be counted; of an ensemble, so that a belief is a weight of each member.
    """
    _check_pool(labelled, size)
    check_shape("logit", logit, (None, *labelled.shape))
    check_range("samples", samples, 1)
    logit, members = jnp.asarray(logit), logit.shape[0]
    both = jnp.stack([jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)])
    noise = entropy(logit).mean(0)

    def pick(carry: tuple, key: Array) -> tuple[tuple, Array]:
        log_belief, taken = carry  # f32[samples, M], bool[N]
        belief = jax.nn.softmax(log_belief)
        gain = _label_entropy(belief @ both).mean(0) - noise
        i = jnp.argmax(jnp.where(taken, -jnp.inf, gain))
        first = jax.random.uniform(key, (samples,)) < belief @ both[0, :, i]
        seen = jnp.where(first[:, None], logit[:, i], -logit[:, i])
        return (log_belief + jax.nn.log_sigmoid(seen), taken.at[i].set(True)), i

    start = (jnp.zeros((samples, members), logit.dtype), labelled)
    return jax.lax.scan(pick, start, jax.random.split(key, size))[1]


def _label_entropy(probability: Array) -> Array:
    """Entropy of labels, f32[2, ...] probabilities of the two -> f32[...], nats."""
    return -xlogy(probability, probability).sum(0)


def _scaled(change: Array, logit: Array) -> Array:
    """√(p (1 − p)) Δφ, f32[N, F]."""
    check_shape("change", change, (*logit.shape, None))
    return change * jnp.sqrt(jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit))[:, None]


def _whitened(change: Array, logit: Array, precision: Array) -> Array:
    """√(p (1 − p)) L⁻¹ Δφ with Λ = L Lᵀ, f32[N, F]."""
    scaled = _scaled(change, logit)
    check_shape("precision", precision, (change.shape[1], change.shape[1]))
    root = jnp.linalg.cholesky(precision)
    return jax.scipy.linalg.solve_triangular(root, scaled.T, lower=True).T


def _check_pool(labelled: Array, size: int) -> None:
    check_mask("labelled", labelled, (None,))
    if not 1 <= size <= labelled.shape[0]:
        raise InputError(f"size: expected 1 to {labelled.shape[0]} (pairs), got {size}")
