"""The alignment frontier of a language model: every method trains a LoRA on it.

A world is a choice of topics and an annotator. The model answers prompts on some topics, and
the annotator compares the answers by their valence (VADER), the gold reward, with noise. From
the comparisons offline methods learn, and so does an ensemble on the model's own embeddings,
the proxy; online methods answer the same prompts and are rewarded. Prompts on other topics
measure. The model, which is the reference policy, is the same in all worlds.

Completions are drawn at temperature 1: the policy that is measured is the one whose log-probs
the losses read. A step is compiled once for all worlds, strengths and teachers, on the mesh of
`language.mesh`; on several devices choose sizes that they divide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.alignment_frontier.worlds import LanguageConfig, World, make_world, measure_by
from experiments.sandbox.runs import Bench, Trace, optimizer
from irl_jax.data.jsonl import PromptRecord
from irl_jax.models.lora import merge
from irl_jax.models.sharding import REPLICATED, RULES
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import kept
from irl_jax.recipes.policy_training import check_batches
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rewards.vader import valence
from irl_jax.rollout.session import LanguageModel, Session, width_of
from irl_jax.train.keys import Draw, loop_key
from irl_jax.train.methods import SAMPLING, Method, rollout_of
from irl_jax.train.objectives import lora
from irl_jax.train.progress import Advance, Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import jit_step, place, shardings
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import Step, make_train_step
from irl_jax.types import Group, InputError, PyTree

MAX_PROMPT = 64  # tokens, chat template included


def on_language_model(
    name: str,
    config: LanguageConfig,
    *,
    seeds: int,
    beta: float,
    run: RunDirectory,
    progress: Progress,
) -> Bench:
    """The task of a language model.

    Args:
        name: of the model, as `load_language_model` takes it.
        config: sizes.
        seeds: worlds.
        beta: the annotator's inverse noise, per standard deviation of gold.
        run: keeps completions and traces.
        progress: shows the runs.

    Raises:
        InputError: there is no such model, or a size does not fit it or the devices.
    """
    asked = [topics(config.prompts + config.held_out, seed) for seed in range(seeds)]
    model = load_language_model(
        name, run.path, seed=0, dtype=config.dtype, progress=progress, tokenizer=config.tokenizer
    )
    encoder = model.encoder(max_prompt=MAX_PROMPT, max_completion=config.max_new_tokens)
    prompts = [
        encoder.prompts(PromptRecord(prompt_of(topic), {}, f"topic: {topic}") for topic in each)
        for each in asked
    ]
    session = open_session(model, config, width_of(*prompts))
    made = [
        make_world(session, config, each, seed, beta, run, progress)
        for seed, each in enumerate(prompts)
    ]
    trainer = Trainer(session, config, beta)

    def trajectories(name: str, method: Method, teacher: str) -> dict[str, np.ndarray]:
        strengths = method.strengths[: config.strengths]
        of_world = len(strengths) * config.training.updates
        advance = progress.stage(f"{name}, {teacher}", seeds * of_world)
        found = []
        for seed, (world, _) in enumerate(made):
            updated = lambda done, metrics, first=seed * of_world: advance(first + done, metrics)
            make = partial(traces, trainer, world, method, strengths, teacher, seed, updated)
            found.append(kept(run, f"{name}_{teacher}_{seed}", make))
        return {name: np.stack([each[name] for each in found]) for name in found[0]}

    rewards = jax.tree.map(lambda *x: np.stack(x), *(reference for _, reference in made))
    return Bench(rewards, trajectories)


def open_session(model: LanguageModel, config: LanguageConfig, width: int) -> Session:
    """The model on its mesh, after a check of all sizes against both."""
    session = Session.create(
        model,
        config.mesh.make(),
        prompt_width=width,
        max_new_tokens=config.max_new_tokens,
        sampling=SAMPLING,
    )
    config.lora.check(session.model.params)
    check_batches(
        {
            "language.training.pairs": config.training.pairs,
            "language.training.prompts": config.training.prompts,
        },
        {"language.held_out": config.held_out},
        accumulate=1,
        ways=session.mesh.shape["data"] * session.mesh.shape["fsdp"],
    )
    return session


class Trainer:
    """Trains LoRAs by any method; each step is compiled once for all worlds and strengths."""

    def __init__(self, session: Session, config: LanguageConfig, beta: float):
        """Compiles nothing yet.

        Args:
            session: the model.
            config: sizes.
            beta: gold is worth this times a standard deviation, logits.
        """
        self.session, self.config, self.beta = session, config, beta
        self.reference = session.model.params
        self.rules = RULES + REPLICATED
        self.merged = jax.jit(
            lambda adapter, reference: merge(reference, adapter, config.lora.scale),
            out_shardings=shardings(session.mesh, self.reference, RULES),
        )
        self.compiled = cache(self._compiled)

    def start(self, method: Method, key: Array) -> TrainState:
        """The state of a run that has not begun."""
        begin, head, own = jax.random.split(key, 3)
        adapter = self.config.lora.init(begin, self.reference)
        params = method.start(self.session.model.config, adapter, head)
        state = init_state(params, optimizer(self.config.training.lr), own)
        return place(self.session.mesh, state, self.rules)

    def _compiled(self, method: Method) -> tuple[Step, Callable[..., Any]]:
        """The update of a method, and what makes its batch."""
        shape, adapt = self.session.model.config, lora(self.config.lora.scale)

        def objective(
            params: PyTree, batch: Any, key: Array, reference: PyTree, strength: Array
        ) -> Any:
            return method.objective(shape, adapt, strength)(params, batch, key, reference)

        step = make_train_step(objective, optimizer(self.config.training.lr))
        state = jax.eval_shape(partial(self.start, method), jax.random.key(0))
        frozen = (self.reference, jnp.float32(0))
        return (
            jit_step(step, self.session.mesh, state, self.rules, frozen=frozen),
            jax.jit(partial(method.batch, shape, adapt)),
        )

    def sample(
        self, world: World, method: Method, params: PyTree, teacher: str, rows: Any, key: Array
    ) -> Group:
        """Completions of some of a world's prompts by a LoRA and what is beside it, rewarded."""
        session, count = self.session, self.config.training.completions
        prompts = jax.tree.map(lambda x: x[rows], world.prompts)
        rollout = rollout_of(
            session.sample, method.beside, count, session.model.config, self.reference
        )
        group = rollout(self.merged(method.policy(params), self.reference), prompts, key)
        if teacher == "gold":
            reward = self.beta * jnp.asarray(world.gold(valence(session.texts(group))))
        else:
            reward = world.judge(session.embed(group, self.config.feature_layers))
        return replace(group, reward=reward)

    def measure(self, world: World, policy: PyTree, key: Array) -> dict[str, float]:
        """The fields of `Trace`, of a LoRA's completions of held-out prompts."""
        session, config = self.session, self.config
        found = session.respond(
            self.merged(policy, self.reference), world.held_out, key,
            completions=config.completions, batch_size=config.held_out,
            advance=lambda done, metrics: None,
            measure=measure_by(session, config.feature_layers),
        )  # fmt: skip
        total = lambda x: float(np.where(found.mask, x, 0.0).sum(-1).mean())
        return {
            "gold": float(world.gold(found.values["gold"]).mean()),
            "proxy": float(world.judge(found.values["features"]).mean()),
            "kl": total(found.logp - found.ref_logp),
            "length": total(1.0),
            "entropy": total(-found.logp),
        }


def traces(
    trainer: Trainer,
    world: World,
    method: Method,
    strengths: tuple[float, ...],
    teacher: str,
    seed: int,
    advance: Advance,
) -> dict[str, np.ndarray]:
    """Each field of `Trace`, f32[A, T], of a method's runs in a world."""
    runs = []
    for arm, strength in enumerate(strengths):
        first = arm * trainer.config.training.updates
        updated = lambda done, metrics, first=first: advance(first + done, metrics)
        runs.append(trace(trainer, world, method, strength, teacher, seed, updated))
    return {
        name: np.array([[at[name] for at in each] for each in runs], np.float32)
        for name in Trace.__dataclass_fields__
    }


def trace(
    trainer: Trainer, world: World, method: Method, strength: float, teacher: str, seed: int,
    advance: Advance,
) -> list[dict[str, float]]:  # fmt: skip
    """A run: what `Trainer.measure` says every so many updates.

    Runs of a world share their random numbers, and measurements of all methods do.
    """
    size, session = trainer.config.training, trainer.session
    reference = session.model.params
    beginning, acting, asking = (
        jax.random.fold_in(jax.random.key(seed), purpose) for purpose in (2, 3, 4)
    )
    rng = np.random.default_rng([seed, 2])
    pull = jnp.float32(strength)
    step, prepare = trainer.compiled(method)
    state, found = trainer.start(method, beginning), []
    for done in range(1, size.updates + 1):
        if method.prepare is None:
            rows = rng.integers(0, len(world.pairs.weight), size.pairs)
            batch = jax.tree.map(lambda x, rows=rows: x[rows], world.pairs)
        else:
            rows = rng.choice(len(world.prompts.mask), size.prompts, replace=False)
            key = jax.random.fold_in(acting, done)
            group = trainer.sample(world, method, state.params, teacher, rows, key)
            drawn = loop_key(acting, Draw.PREPARE, done)
            known = group, session.logp(reference, group), pull, drawn
            with jax.set_mesh(session.mesh):
                batch = prepare(state.params, reference, *known)
        state, metrics = step(state, batch, reference, pull)
        if not np.isfinite(metrics["loss"]):
            raise InputError(f"the loss of update {done} is not finite; lower language.training.lr")
        advance(done, jax.device_get(metrics))
        if done % size.every == 0:
            found.append(trainer.measure(world, method.policy(state.params), asking))
    return found
