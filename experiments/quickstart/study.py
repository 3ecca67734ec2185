"""The study of `experiments.quickstart`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.quickstart.report import conclusion, summarise, write_report
from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.eval.annotator import annotate, logistic_annotator
from irl_jax.eval.quality import reward_quality
from irl_jax.losses.policy import grpo
from irl_jax.recipes.language_model import MeshConfig, load_language_model
from irl_jax.recipes.launch import Clock, given_model, launch
from irl_jax.recipes.policy_training import LoraConfig, Training, Updates, align
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig, fit_ensemble
from irl_jax.rewards.vader import valence
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Completions, Session, width_of
from irl_jax.train.methods import policy_gradient
from irl_jax.train.monitor import Monitor
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, LoopContext, Preference, PyTree, Rewarded


@dataclass(frozen=True)
class PromptsConfig:
    """The prompts of the experiment."""

    train: int = 48  # prompts whose responses are compared, and on which the policy acts
    held_out: int = 24  # prompts on which everything is measured
    max_tokens: int = 64  # tokens of a prompt, chat template included


@dataclass(frozen=True)
class AnnotatorConfig:
    """A Bradley-Terry annotator: P(i preferred to j) = sigmoid(beta (gold_i - gold_j))."""

    beta: float = field(  # inverse noise, per unit of gold reward; infinity never errs
        default=6.0, metadata={"infinite": True}
    )
    pairs_per_prompt: int = 28  # comparisons of each prompt's responses, at most


@dataclass(frozen=True)
class PolicyConfig:
    """GRPO with a LoRA."""

    steps: int = 12  # updates
    prompts: int = 8  # prompts of an update
    completions: int = 8  # responses to each prompt
    lr: float = 5e-4  # learning rate of Adam, constant after two warm-up updates
    kl_beta: float = 0.04  # weight of the KL penalty to the reference, reward a nat
    clip: float = 0.2  # clip range of the importance ratio
    lora_rank: int = 8  # rank of the LoRA
    lora_alpha: float = 16.0  # scale of the LoRA times its rank
    lora_targets: str = "attn|mlp"  # regular expression of the kernels that get a LoRA
    save_every: int = 4  # updates between checkpoints


@dataclass(frozen=True)
class Config:
    """The quickstart."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    run_dir: str = "runs/quickstart"  # directory of results; a run resumes there
    seed: int = 0  # seed of everything random
    dtype: str = "float32"  # compute dtype: float32 or bfloat16
    completions: int = 8  # responses to each prompt, for comparisons and for measuring
    max_new_tokens: int = 24  # tokens of a response, at most
    feature_layers: int = 15  # layers of the model that the reward model's features come from
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8))
    annotator: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    reward: EnsembleConfig = field(default_factory=EnsembleConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


CONFIG = Config()


def learn_reward(
    responses: Completions, pairs: np.ndarray, config: EnsembleConfig, seed: int
) -> EmbeddingReward:
    """An ensemble of reward models from comparisons of responses."""
    prompt, chosen, rejected = pairs.T
    features = responses.values["features"]
    both = np.stack([features[prompt, chosen], features[prompt, rejected]], axis=1)
    key = jax.random.fold_in(jax.random.key(seed), 1)
    batch = Preference.without_tokens(jnp.ones(len(pairs)))
    model, _ = fit_ensemble(jnp.asarray(both), batch, key, config=config)
    return model


def improve_policy(
    session: Session,
    config: Config,
    prompts: list[EncodedPrompt],
    reward: EmbeddingReward,
    run: RunDirectory,
    progress: Progress,
) -> PyTree:
    """GRPO against the learned reward; returns the parameters of the improved decoder."""
    policy = config.policy
    training = Training(
        session,
        LoraConfig(policy.lora_rank, policy.lora_alpha, policy.lora_targets),
        seed=config.seed,
        save_every=policy.save_every,
    )
    loss = partial(grpo, beta=policy.kl_beta, clip=policy.clip)
    updates = Updates(
        policy_gradient(loss, group_advantages, session.sampling),
        reference=True,
        steps=policy.steps,
        prompts=policy.prompts,
        completions=policy.completions,
        lr=optax.warmup_constant_schedule(0.0, policy.lr, 2),
    )
    watch = Monitor(run.metrics())

    def learned(group: Group, context: LoopContext) -> Rewarded:
        members = reward(session.embed(group, config.feature_layers))
        return Rewarded(members.mean(0), {f"member_{i}": own for i, own in enumerate(members)})

    def observe(group: Group, context: LoopContext) -> dict[str, float]:
        members = jnp.stack([*context.parts.values()])
        gold = valence(session.texts(group))
        shown = jnp.asarray(gold, jnp.float32)
        drifts = watch(context.update, group, members=members, gold=shown)
        return {"gold": float(gold.mean()), **drifts}

    state = align(training, updates, prompts, learned, run, progress, observe=observe)
    return training.merged(state.params)


def main(config: Config) -> None:
    """Runs the quickstart, goes on with it, or reports what is there."""
    inputs = {"model": given_model(config.model), "tokenizer": config.tokenizer}
    launch(config, partial(experiment, config), conclusion, inputs=inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """The stages, from the model to the report."""
    clock = Clock(run.path / "seconds.json")
    key = jax.random.key(config.seed)
    count = config.prompts.train
    with clock("load the model"):
        model = load_language_model(
            config.model, run.path, seed=config.seed, dtype=config.dtype, progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
        encoder = model.encoder(
            max_prompt=config.prompts.max_tokens, max_completion=config.max_new_tokens
        )
        names = topics(count + config.prompts.held_out, config.seed)
        prompts = encoder.prompts(
            PromptRecord(prompt_of(name), {}, f"topic {i}") for i, name in enumerate(names)
        )
        session = Session.create(
            model,
            config.mesh.make(),
            prompt_width=width_of(prompts),
            max_new_tokens=config.max_new_tokens,
            sampling=config.sampling,
        )
        respond = partial(
            session.respond,
            completions=config.completions,
            batch_size=config.policy.prompts,
            measure=lambda group, texts: {
                "gold": valence(texts),
                "features": session.embed(group, config.feature_layers),
            },
        )
    with clock("sample responses"):
        file = run.path / "responses.npz"
        if not file.exists():
            advance = progress.stage("responses", len(prompts))
            respond(session.model.params, prompts, key, advance=advance).save(file)
        responses = Completions.load(file)
        train, before = responses.part(slice(count)), responses.part(slice(count, None))
    with clock("learn the reward"):
        pairs, flipped = annotate(
            train.values["gold"], logistic_annotator(config.annotator.beta),
            pairs_per_prompt=config.annotator.pairs_per_prompt, seed=config.seed,
        )  # fmt: skip
        reward = learn_reward(train, pairs, config.reward, config.seed)
        learned = reward(jnp.asarray(before.values["features"])).mean(0)
        quality = reward_quality(learned, before.values["gold"])
    with clock("improve the policy"):
        policy = improve_policy(session, config, prompts[:count], reward, run, progress)
    with clock("measure the policy"):
        advance = progress.stage("held-out prompts", config.prompts.held_out)
        fresh = jax.random.fold_in(key, 1)
        after = respond(policy, prompts[count:], fresh, advance=advance)
    summary = summarise(
        before, after, reward, quality,
        pairs=len(pairs), flipped=flipped, seed=config.seed, seconds=clock.seconds,
    )  # fmt: skip
    write_report(run, summary, quality, [prompt_of(name) for name in names[count:]], before, after)
    run.finish(summary)
