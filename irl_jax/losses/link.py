"""Links: what a pair costs, given by how much the chosen side is ahead.

A link maps the logit z f32[...] of "the preferred one wins" to a loss f32[...];
a pairwise objective is an implicit or learned reward under a link.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import Array

from irl_jax.masking import check_range

Link = Callable[[Array], Array]


def logistic(z: Array) -> Array:
    """−log σ(z): the negative log-likelihood of the Bradley-Terry model.

    Args:
        z: f32[...], logits.

    Returns:
        f32[...], nats.
    """
    return jax.nn.softplus(-z)


def smooth(link: Link, label_smoothing: float) -> Link:
    """The expected loss when a label is wrong with probability ε, (1 − ε) ℓ(z) + ε ℓ(−z).

    With the logistic link it is least at z = log((1 − ε) / ε), not at infinity.

    Args:
        link: ℓ.
        label_smoothing: ε in [0, 0.5].

    Returns:
        A link.

    Raises:
        InputError: ε is out of range.

    Reference: Mitchell 2023, "A note on DPO with noisy preferences & relationship
    to IPO" (conservative DPO).
    """
    check_range("label_smoothing", label_smoothing, 0.0, 0.5)
    return lambda z: (1.0 - label_smoothing) * link(z) + label_smoothing * link(-z)
