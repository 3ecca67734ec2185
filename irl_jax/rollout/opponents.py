"""Completions beside the policy's own: a greedy one, the reference's, those of a mixture.

A rollout is `(params, prompts, key) -> Group`, such as a `partial` of `generate`.
`with_opponents` makes one of several, and `split_opponents` splits its groups again. With

    sample = partial(generate, config, completions=4, max_new_tokens=64, sampling=Sampling(),
                     eos_ids=eos)
    greedy = partial(sample, completions=1, sampling=Sampling(temperature=0))
    mixture = partial(sample, guides=(MixtureGuide(config, reference, 0.125),))
    one = partial(sample, completions=1)

these are the rollouts of

    ReMax      with_opponents(sample, greedy)
    Nash-MD    with_opponents(sample, mixture)
    XPO        with_opponents(one, lambda params, *rest: one(reference, *rest))

and what is learned from them is in `irl_jax.train.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.types import Group, InputError, PyTree

# parameters, prompts, key -> completions
Rollout = Callable[[PyTree, PyTree, Array], Group]


@flax.struct.dataclass
class Demonstrated:
    """Prompts, and how an expert answered each.

    Attributes:
        context: `Prompt` of B rows.
        action: i32[B, 1, T], right-padded.
        mask: bool[B, 1, T].
        terminated: bool[B, 1], whether the answer is whole, with its EOS.
    """

    context: Any
    action: Array
    mask: Array
    terminated: Array


def with_opponents(*rollouts: Rollout) -> Rollout:
    """One rollout of several: the completions of the first, of the second, ..., in a group.

    All are judged; the metrics `reward`, `length` and `terminated` of `train.online.train_online`
    are means over all of them.

    Args:
        *rollouts: each answers the same prompts with completions of the same greatest
            length T, with a key of its own.

    Returns:
        `(params, prompts, key) -> Group` of B x (K₁ + K₂ + ...) completions.

    Raises:
        InputError: when called, if their greatest lengths differ.
    """

    def rollout(params: PyTree, prompts: PyTree, key: Array) -> Group:
        keys = jax.random.split(key, len(rollouts))
        groups = [one(params, prompts, own) for one, own in zip(rollouts, keys, strict=True)]
        lengths = [group.mask.shape[-1] for group in groups]
        if len(set(lengths)) > 1:
            raise InputError(f"with_opponents: rollouts of {lengths} tokens; give all the same")
        shared = groups[0].context
        alone = [replace(group, context=None) for group in groups]
        joined: Group = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *alone)
        return replace(joined, context=shared)

    return rollout


def with_demonstrations(
    sample: Rollout, logp: Callable[[PyTree, Group], Array]
) -> Callable[[PyTree, Demonstrated, Array], Group]:
    """A rollout whose groups end with the demonstration of each prompt.

    Args:
        sample: answers the prompts with completions of at most T tokens.
        logp: (params, group) -> f32[B, K, T], log-probs of its completions under a policy (nats).

    Returns:
        `(params, batch, key) -> Group` of B x (K + 1) completions: what `sample` gives for the
        prompts of the batch, then what was demonstrated, with its log-probs under the policy.
    """

    def rollout(params: PyTree, batch: Demonstrated, key: Array) -> Group:
        group = sample(params, batch.context, key)
        shown = replace(
            jax.tree.map(lambda x: x[:, :1], replace(group, context=None)),
            context=group.context,
            action=batch.action,
            mask=batch.mask,
            terminated=batch.terminated,
        )
        shown = replace(shown, logp=logp(params, shown))
        join = lambda x, y: jnp.concatenate([x, y], axis=1)
        alone = (replace(g, context=None) for g in (group, shown))
        return replace(jax.tree.map(join, *alone), context=group.context)

    return rollout


def split_opponents(group: Group, first: int) -> tuple[Group, Group]:
    """The first completions of each prompt, and the others.

    Args:
        group: B prompts with K completions each.
        first: how many of them, in [1, K - 1].

    Returns:
        Groups of B x `first` and B x (K - `first`) completions.

    Raises:
        InputError: either would be empty.
    """
    k = group.mask.shape[1]
    if not 0 < first < k:
        raise InputError(f"first: {first} of {k} completions leaves none on one side")
    alone = replace(group, context=None)
    cut = lambda at: replace(jax.tree.map(lambda x: x[:, at], alone), context=group.context)
    return cut(slice(None, first)), cut(slice(first, None))
