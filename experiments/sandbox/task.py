"""A small world in which every way to align a model runs in seconds, and gold is known.

A source writes short sentences over a small vocabulary; a tiny decoder learns to write like
it (the reference policy); a fixed taste, which nobody is shown, judges what is written (the
gold reward); annotators compare sentences by it and err. What they leave is learned by reward
models on the reference policy's embeddings (the proxies). So a policy can be trained on a
proxy, and its gold reward and its KL to the reference measured exactly where LLMs leave guesses.

Taste. With c_s the number of times that symbol s is written, x the prompt, y the completion:

    raw(x, y) = Σ_s w_s(x) √c_s + Σ_t b(y_t−1, y_t) − ρ Σ_s max(c_s − 2, 0),
    w_s(x) = u_s + mean over the prompt's symbols p of U[p, s],

what it likes (some symbols, more so after some prompts, each with diminishing returns), in
what order, and that it hates repetition, of which the reference policy writes little. `gold` is
raw, shifted and scaled to mean 0 and standard deviation 1 over the reference's completions.

    task = make_task(SandboxConfig(), seed=0)
    context = draw_prompts(task, key, 64)
    group = sample(task, task.reference, context, key, completions=8)  # rewarded with gold
    pairs = compare(group, key, beta=2.0)                              # `Preference`, for DPO
    model = learn_proxy(task, pairs, key, config=EnsembleConfig())
    group = group.replace(reward=proxy(task, model, group).mean(0))    # rewarded by the proxy
    measure(task, policy, context, key, completions=8)                 # gold, KL, ...
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.sandbox.world import (
    EOS,
    Source,
    Taste,
    demonstrations,
    init_source,
    init_taste,
    prompts,
    raw_gold,
)
from irl_jax.losses.preference import bradley_terry
from irl_jax.masking import masked_mean, masked_sum
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.heads import pool
from irl_jax.models.logprob import completion_hidden, completion_logp
from irl_jax.recipes.launch import kept
from irl_jax.rewards.embedding import (
    EmbeddingReward,
    EnsembleConfig,
    fit_ensemble,
    fit_members,
)
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import LogitsProcessor
from irl_jax.rollout.pairs import in_twos, sampled_pair
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import sft_objective
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, Preference, Prompt, PyTree


@dataclass(frozen=True)
class SandboxConfig:
    """The size of the world, and how the reference policy is trained."""

    vocabulary: int = 24  # EOS and the symbols
    prompt_tokens: int = 4  # symbols of a prompt
    max_new_tokens: int = 16  # tokens of a completion, EOS included, at most
    width: int = 32  # width of the decoder's residual stream
    layers: int = 2  # layers of the decoder
    demonstrations: int = 8192  # sentences that the reference policy learns from
    steps: int = 600  # updates of the reference policy
    batch_size: int = 64  # sentences of an update
    lr: float = 5e-3  # peak learning rate of Adam, cosine decay to 0


@flax.struct.dataclass
class Task:
    """A world: a pytree, so that worlds of several seeds stack and `jax.vmap`.

    Attributes:
        config: shape of the decoder; static.
        prompt_tokens: of a prompt; static.
        max_new_tokens: of a completion, at most; static.
        source: of prompts and demonstrations.
        taste: the gold reward.
        reference: parameters of the reference policy.
    """

    source: Source
    taste: Taste
    reference: PyTree
    config: DecoderConfig = flax.struct.field(pytree_node=False)
    prompt_tokens: int = flax.struct.field(pytree_node=False)
    max_new_tokens: int = flax.struct.field(pytree_node=False)


def gold(task: Task, context: Prompt, action: Array, mask: Array) -> Array:
    """The gold reward f32[B, K] of i32[B, K, T], in standard deviations of the reference's."""
    taste = task.taste
    return (raw_gold(taste, context, action, mask) - taste.mean) / taste.scale


def draw_prompts(task: Task, key: Array, count: int) -> Prompt:
    """Prompts of the source, `count` rows without padding."""
    return prompts(task.source, key, count, task.prompt_tokens)


@partial(jax.jit, static_argnames="config")
def make_task(config: SandboxConfig, seed: int | Array) -> Task:
    """The world of a seed: its source, its taste, and the reference policy, trained.

    One compiled program; `jax.lax.map(partial(make_task, config), seeds)` gives several.

    Args:
        config: sizes.
        seed: i32[].
    """
    keys = jax.random.split(jax.random.key(seed), 6)
    source = init_source(keys[0], config.vocabulary)
    shape = DecoderConfig(
        vocab_size=config.vocabulary,
        d_model=config.width,
        n_layers=config.layers,
        n_heads=4,
        n_kv_heads=4,
        head_dim=max(2, config.width // 4),
        d_ff=2 * config.width,
        max_positions=config.prompt_tokens + config.max_new_tokens,
    )
    lessons = demonstrations(
        source, keys[1], config.demonstrations, config.prompt_tokens, config.max_new_tokens
    )
    sft = sft_objective(shape)
    members, _ = fit_members(
        partial(init_params, shape),
        lambda params, rows: sft(params, rows, keys[2]),
        lessons,
        keys[2],
        config=EnsembleConfig(
            members=1, steps=config.steps, batch_size=config.batch_size, lr=config.lr,
            weight_decay=0.0, rows="passes",
        ),
    )  # fmt: skip
    task = Task(
        source=source,
        taste=init_taste(keys[3], config.vocabulary),
        reference=jax.tree.map(lambda x: x[0], members),
        config=shape,
        prompt_tokens=config.prompt_tokens,
        max_new_tokens=config.max_new_tokens,
    )
    context = draw_prompts(task, keys[4], 512)
    raw = sample(task, task.reference, context, keys[5], completions=8).reward
    taste = dataclasses.replace(task.taste, mean=raw.mean(), scale=raw.std())
    return dataclasses.replace(task, taste=taste)


def kept_task(run: RunDirectory, config: SandboxConfig, seed: int) -> Task:
    """`make_task`, kept in the run directory as sandbox_SEED.npz."""
    shapes = jax.eval_shape(partial(make_task, config), seed)
    leaves, tree = jax.tree.flatten(shapes)
    make = lambda: {
        f"leaf_{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(make_task(config, seed)))
    }
    arrays = kept(run, f"sandbox_{seed}", make)
    task: Task = jax.tree.unflatten(
        tree, [jnp.asarray(arrays[f"leaf_{i}"]) for i in range(len(leaves))]
    )
    return task


def kept_tasks(run: RunDirectory, config: SandboxConfig, seeds: int) -> Task:
    """The worlds of seeds 0, 1, ..., kept as `kept_task` does; leaves with a leading axis S."""
    worlds = [kept_task(run, config, seed) for seed in range(seeds)]
    tasks: Task = jax.tree.map(lambda *x: jnp.stack(x), *worlds)
    return tasks


@partial(jax.jit, static_argnames=("completions", "temperature"))
def sample(
    task: Task,
    params: PyTree,
    context: Prompt,
    key: Array,
    *,
    completions: int,
    temperature: float = 1.0,
    guides: tuple[LogitsProcessor, ...] = (),
) -> Group:
    """Completions of a policy, with their gold reward.

    Args:
        task: the world.
        params: of the policy, such as `task.reference`.
        context: `Prompt` of B rows.
        key: typed PRNG key.
        completions: K.
        temperature: divides the logits.
        guides: see `generate`.
    """
    group = generate(
        task.config,
        params,
        context,
        key,
        completions=completions,
        max_new_tokens=task.max_new_tokens,
        sampling=Sampling(temperature=temperature),
        eos_ids=(EOS,),
        guides=guides,
    )
    return dataclasses.replace(group, reward=gold(task, context, group.action, group.mask))


@jax.jit
def log_ratio(task: Task, params: PyTree, group: Group) -> Array:
    """log π(y|x) − log π_ref(y|x) of completions, f32[B, K], nats; its mean over π's is KL."""
    own, ref = (
        completion_logp(task.config, p, group.context, group.action)
        for p in (params, task.reference)
    )
    return masked_sum(own - ref, group.mask, axis=-1)


@flax.struct.dataclass
class Measures:
    """What a policy is worth on B prompts; each f32[B], a mean over K completions.

    Attributes:
        gold: standard deviations of the reference's gold reward, 0 for the reference.
        kl: KL(π‖π_ref) of whole completions, nats; an unbiased estimate, of either sign.
        entropy: −log π of whole completions, nats.
        length: tokens, EOS included.
    """

    gold: Array
    kl: Array
    entropy: Array
    length: Array


@partial(jax.jit, static_argnames="completions")
def measure(
    task: Task, params: PyTree, context: Prompt, key: Array, *, completions: int
) -> Measures:
    """Samples a policy at temperature 1 and measures it.

    Args:
        task: the world.
        params: of the policy.
        context: `Prompt` of B rows.
        key: typed PRNG key.
        completions: K.
    """
    return measures(task, params, sample(task, params, context, key, completions=completions))


def measures(task: Task, params: PyTree, group: Group) -> Measures:
    """`measure` of completions that `sample` drew from the policy at temperature 1."""
    return Measures(
        gold=group.reward.mean(-1),
        kl=log_ratio(task, params, group).mean(-1),
        entropy=-masked_sum(group.logp, group.mask, axis=-1).mean(-1),
        length=group.mask.sum(-1).mean(-1),
    )


@jax.jit
def compare(group: Group, key: Array, *, beta: float) -> Preference:
    """Neighbouring completions of a prompt, compared by an annotator who errs on close calls.

    P(first preferred) = σ(β (gold₁ − gold₂)), gold being the reward of the group.

    Args:
        group: of B prompts with K completions, K even; rewarded with gold.
        key: typed PRNG key.
        beta: β, per standard deviation of gold; infinity never errs.

    Returns:
        `Preference` of B * K / 2 rows: pairs of the first prompt, of the second, ...
    """
    return sampled_pair(in_twos(group), key, beta=beta)


@jax.jit
def embed(task: Task, context: Prompt, action: Array, mask: Array) -> Array:
    """Embeddings of completions by the reference policy, f32[B, K, 2 D].

    The mean of the hidden states of a completion's tokens, and the last of them.

    Args:
        task: the world.
        context: `Prompt` of B rows.
        action: i32[B, K, T].
        mask: bool[B, K, T].
    """
    return pooled(completion_hidden(task.config, task.reference, context, action), mask)


def pooled(hidden: Array, mask: Array) -> Array:
    """`embed` of completions from their hidden states f32[B, K, T, D] in the reference policy."""
    at_last = mask & ~jnp.pad(mask[..., 1:], ((0, 0), (0, 0), (0, 1)))
    return jnp.concatenate([pool(hidden, mask), pool(hidden, at_last)], axis=-1)


def learn_proxy(
    task: Task,
    pairs: Preference,
    key: Array,
    *,
    config: EnsembleConfig,
    label_smoothing: float = 0.0,
) -> EmbeddingReward:
    """An ensemble of perceptrons on embeddings, learned from comparisons.

    Comparisons say nothing about a reward's zero: each member is shifted so that its mean
    over the sides of the pairs is 0, which makes members comparable.

    Args:
        task: the world.
        pairs: comparisons; rows of weight 0 are not learned from.
        key: typed PRNG key.
        config: members, widths, steps.
        label_smoothing: share of wrong labels that the loss assumes.
    """
    features = embed(task, pairs.context, pairs.action, pairs.mask)
    labels = Preference.without_tokens(pairs.weight)
    loss = partial(bradley_terry, label_smoothing=label_smoothing)
    model, _ = fit_ensemble(features, labels, key, config=config, loss=loss)
    counts = jnp.broadcast_to(pairs.weight[:, None] > 0, features.shape[:2])
    mean = jax.vmap(lambda reward: masked_mean(reward, counts))(model(features))
    last = f"layer_{len(config.widths)}"
    shifted = model.members[last] | {"bias": model.members[last]["bias"] - mean[:, None]}
    return dataclasses.replace(model, members=model.members | {last: shifted})


def proxy(task: Task, model: EmbeddingReward, group: Group) -> Array:
    """Rewards that a proxy's M members give completions, f32[M, B, K]."""
    return model(embed(task, group.context, group.action, group.mask))
