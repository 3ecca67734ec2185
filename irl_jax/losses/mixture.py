"""A population: an annotator, or a demonstration, follows one of M rewards, unknown which."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import logistic
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_mask, masked_mean, masked_sum
from irl_jax.types import AnnotatorBatch, Loss, Trajectory


def annotator_log_likelihood(reward: Array, mask: Array) -> Array:
    """log p(comparisons of an annotator | reward m) = Σₜ log σ(rₘ(yₜʷ) − rₘ(yₜˡ)).

    Args:
        reward: f32[B, T, 2, M], rewards of both sides of each comparison under each
            component; index 0 is the chosen response. Read where the mask is true.
        mask: bool[B, T], the comparisons that an annotator made.

    Returns:
        f32[B, M], nats.

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    reward = as_float("reward", reward, (None, None, 2, None))
    check_mask("mask", mask, reward.shape[:2])
    ahead = _ahead(reward, mask)
    return -masked_sum(logistic(ahead), jnp.broadcast_to(mask[..., None], ahead.shape), axis=1)


def _ahead(reward: Array, mask: Array) -> Array:
    """How much the chosen side is ahead under each component, f32[B, T, M]; 0 outside the mask."""
    chosen, rejected = jnp.moveaxis(jnp.where(mask[..., None, None], reward, 0.0), 2, 0)
    return chosen - rejected


def posterior(log_likelihood: Array, logits: Array) -> Array:
    """p(m | what one did) ∝ πₘ p(what one did | reward m), of an annotator or a demonstration.

    Args:
        log_likelihood: f32[..., M], of `annotator_log_likelihood`, or of a demonstration's
            actions (nats).
        logits: f32[M], π = softmax(logits), the shares of the population.

    Returns:
        f32[..., M]; sums to 1.

    Example:
        >>> pair = jnp.array([[0.5, -0.5], [-0.5, 0.5]])  # two rewards that disagree by 1
        >>> four = jnp.tile(pair, [1, 4, 1, 1])
        >>> evidence = annotator_log_likelihood(four, jnp.ones([1, 4], bool))
        >>> belief = posterior(evidence, jnp.zeros(2))[0]
        >>> round(float(jnp.log(belief[0] / belief[1])), 3)  # nats, 1 a comparison
        4.0
    """
    return jax.nn.softmax(log_likelihood + jax.nn.log_softmax(logits), axis=-1)


def mixture_likelihood(reward: Array, batch: AnnotatorBatch, *, logits: Array) -> Loss:
    """Maximum likelihood of a mixture of Bradley-Terry annotators.

    L = −Σᵢ wᵢ log Σₘ πₘ Πₜ σ(rₘ(yᵢₜʷ) − rₘ(yᵢₜˡ)) / Σᵢ wᵢ: an annotator keeps to one
    component over all his comparisons. With M = 1 it is Bradley-Terry, summed over
    the comparisons of an annotator. The likelihood has several optima (exchange two
    components, or merge them): start more than once and keep the best.

    Args:
        reward: f32[B, T, 2, M], rewards of both sides of each comparison under each
            component; index 0 is the chosen response. Read where `batch.mask` is true.
        batch: B annotators with up to T comparisons each; those without any do not
            count.
        logits: f32[M], π = softmax(logits), the shares of the population; may be
            learned.

    Returns:
        Loss an annotator (nats). Metrics: `accuracy`, the share of an annotator's
        comparisons that his posterior mean reward orders as he did (it has seen them; a
        tie counts one half), and `entropy` of the posterior (nats).

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Chakraborty et al. 2024, "MaxMin-RLHF: alignment with diverse human
    preferences", arXiv 2402.08925, algorithm 2.

    Differs: they alternate between assigning each annotator to his most likely
    component and fitting the components; here the likelihood itself is the loss, with
    its gradient weighted by the posterior.
    """
    reward = as_float("reward", reward, (None, None, 2, None))
    b, t, _, m = reward.shape
    check_mask("batch.mask", batch.mask, (b, t))
    weight = as_float("batch.weight", batch.weight, (b,))
    logits = as_float("logits", logits, (m,))
    made = batch.mask & (weight > 0)[:, None]
    weight = jnp.where(made.any(-1), weight, 0.0)
    log_likelihood = annotator_log_likelihood(reward, made)
    joint = log_likelihood + jax.nn.log_softmax(logits)
    belief = posterior(log_likelihood, logits)
    ahead = (_ahead(reward, made) * belief[:, None]).sum(-1)
    right = masked_mean(0.5 * (1.0 + jnp.sign(ahead)), made, axis=-1)
    entropy = -(belief * jax.nn.log_softmax(joint, axis=-1)).sum(-1)
    metrics = {"accuracy": weighted(right, weight), "entropy": weighted(entropy, weight)}
    return Loss(*weighted(-jax.nn.logsumexp(joint, axis=-1), weight), metrics)


def intention_likelihood(logp: Array, batch: Trajectory, *, logits: Array) -> Loss:
    """Maximum likelihood of several intentions: each demonstration follows one of M rewards.

    L = −E_D log Σₘ ρₘ Πₜ πₘ(aₜ | sₜ), where πₘ is the soft policy of reward m. Its gradient is that
    of the M step of EM: each reward's own, weighted by the posterior of the demonstration. The
    likelihood has several optima: start more than once and keep the best.

    Args:
        logp: f32[B, T, M], log-probs of the demonstrated actions under the soft policy of each
            reward (nats); read where `batch.mask` is true.
        batch: demonstrations; those without any action do not count.
        logits: f32[M], ρ = softmax(logits), the shares of the intentions; may be learned.

    Returns:
        Loss a demonstration (nats). Metrics: `nll`, nats an action, and `entropy` of the
        posterior, nats a demonstration.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Babeş-Vroman, Marivate, Subramanian & Littman 2011, "Apprenticeship learning about
    multiple intentions", ICML, section 4.

    Differs: they alternate the steps of EM; here the likelihood itself is the loss. The actions
    have no inverse temperature: the scale of the rewards is it.

    Example:
        >>> absent, mask = None, jnp.ones([1, 2], bool)
        >>> batch = Trajectory(absent, absent, mask, absent, absent, absent)
        >>> logp = jnp.log(jnp.array([[[0.5, 0.2], [0.5, 0.2]]]))
        >>> round(float(jnp.exp(-intention_likelihood(logp, batch, logits=jnp.zeros(2)).mean)), 4)
        0.145
    """
    logp = as_float("logp", logp, (None, None, None))
    check_mask("batch.mask", batch.mask, logp.shape[:2])
    logits = as_float("logits", logits, logp.shape[2:])
    made = batch.mask[..., None]
    log_likelihood = jnp.where(made, logp, 0.0).sum(1)
    joint = log_likelihood + jax.nn.log_softmax(logits)
    weight = batch.mask.any(-1).astype(logp.dtype)
    entropy = jax.scipy.special.entr(posterior(log_likelihood, logits)).sum(-1)
    total, count = weighted(-jax.nn.logsumexp(joint, axis=-1), weight)
    nll = (total, batch.mask.sum().astype(logp.dtype))
    return Loss(total, count, {"nll": nll, "entropy": weighted(entropy, weight)})
