"""Adversarial imitation: discriminators that tell a policy's actions from demonstrated ones.

One is trained by `losses.rating.binary_cross_entropy` on a batch of
`losses.divergence.discriminator_batch`, and so learns v = log ρ_E/ρ_π, ρ the occupancies of the
expert and of the policy. `losses.divergence.gail` makes rewards of v.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.shaping import potential_shaped
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_range
from irl_jax.types import InputError, Loss, Rating, Trajectory


def gradient_penalty(slope: Array, batch: Rating, *, target: float) -> Loss:
    """The slope of a discriminator is to be near a constant: L = (‖∇v(x)‖ − k)².

    Args:
        slope: f32[N, D], ∇v at N points x, usually between a demonstration and a sample of the
            policy each. Rows of weight 0 may be NaN.
        batch: its weights are read.
        target: k >= 0; 1 in the paper, 0 for a discriminator that is flat where it can be.

    Returns:
        Loss a point. Metrics: `slope`, the mean of ‖∇v‖.

    Raises:
        InputError: an array has the wrong shape or dtype, or k < 0.

    Reference: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv 1704.00028,
    eq. 3.
    """
    check_range("target", target, 0.0)
    slope = as_float("slope", slope, (None, None))
    weight = as_float("batch.weight", batch.weight, slope.shape[:1])
    square = (jnp.where(weight[:, None] > 0, slope, 0.0) ** 2).sum(-1)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return Loss(*weighted((norm - target) ** 2, weight), {"slope": weighted(norm, weight)})


def airl_logit(
    reward: Array,
    potential: Array,
    logp: Array,
    batch: Trajectory,
    *,
    final_potential: Array | None = None,
) -> Array:
    """Logits of adversarial inverse RL, v = f − log π(a|s), f = g(s) + γ h(s′) − h(s).

    h(s′) is 0 where the episode ended, and not where it was cut. At the optimum, π = π_E, f is the
    soft advantage log π_E; in a deterministic process g is then the reward but for a constant, if
    the reward is one of states. The policy's reward is v itself: f, and the entropy of the policy.

    Args:
        reward: f32[B, T], g of the state in which each action was taken.
        potential: f32[B, T], h of the same states, and of those at which an episode was cut.
        logp: f32[B, T], log-probs of the actions under the policy (nats).
        batch: of demonstrations or of the policy; its mask and discount are read.
        final_potential: f32[B], h of the state after the last action; 0 by default.

    Returns:
        f32[B, T], nats; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or the batch has no discount.

    Reference: Fu, Luo & Levine 2017, "Learning Robust Rewards with Adversarial Inverse
    Reinforcement Learning", arXiv 1710.11248, section 6.
    """
    if batch.discount is None:
        raise InputError("batch.discount: missing; give γ (1 − terminated) of each action")
    shaped = potential_shaped(
        reward, potential, batch.mask, discount=batch.discount, final_potential=final_potential
    )
    logp = as_float("logp", logp, shaped.shape)
    return shaped - jnp.where(batch.mask, logp, 0.0)


def airl(log_ratio: Array) -> Array:
    """r = v = f − log π, log D/(1 − D): the learned reward and the policy's entropy.

    Of language models f = g + log π_ref with g learned, so that v = g − log π/π_ref: a reward and
    the KL to the model that training began with. At the optimum, π = π_E, g is log π_E/π_ref, of
    whole completions or of every token, and v is 0. `airl_logit` is the form in which potentials
    are told from f.

    Args:
        log_ratio: v, f32[...], nats.

    Reference: Fu, Luo & Levine 2017, "Learning Robust Rewards with Adversarial Inverse
    Reinforcement Learning", arXiv 1710.11248; Fanconi, Astorga & van der Schaar 2025, "Learning
    a Dense Reasoning Reward Model from Expert Demonstration via Inverse Reinforcement Learning",
    arXiv 2510.01857 (language models, a reward of every token).

    Differs: f of the papers is learned whole; −log π alone would reward a policy that writes at
    random until f is learned.
    """
    return log_ratio


def raro(ahead: Array) -> Array:
    """r = σ(v(y) − v(y_E)): how likely a critic takes a sample for the demonstration beside it.

    A relativistic critic is shown both and says which one is the expert's. Trained by
    `bradley_terry`, the demonstration as the chosen one, it learns v(y_E) − v(y), at its optimum
    log p(y_E)q(y)/p(y)q(y_E), of p the demonstrations' distribution and q the policy's; its
    reward is at most 1, and ½ where the two are alike.

    Args:
        ahead: v(y) − v(y_E), f32[...], nats, of a sample and the demonstration of its prompt.

    Reference: Cai & Provilkov 2025, "Escaping the Verifier: Learning to Reason via
    Demonstrations", arXiv 2511.21667 (RARO); Jolicoeur-Martineau 2018, "The relativistic
    discriminator: a key element missing from standard GAN", arXiv 1807.00734.

    Differs: RARO's critic is a language model that reasons before its verdict, may call a tie,
    and is trained by reinforcement learning; this one is a score, and its probability of a
    mistake is the reward in place of a drawn verdict.

    Example:
        >>> raro(jnp.array([0.0])).tolist()
        [0.5]
    """
    return jax.nn.sigmoid(ahead)
