"""The study of `experiments.r1_zero`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from experiments.arithmetic.chain_sums import train_policy
from experiments.r1_zero.config import Config, PolicyConfig
from experiments.r1_zero.report import Result, conclusion, summarise, write_report
from experiments.r1_zero.tasks import (
    EOS,
    LENGTH,
    SETTINGS,
    VOCABULARY,
    WIDTH,
    WRITTEN,
    accuracy,
    completions,
    encode,
    form,
    make_questions,
    prompts,
)
from experiments.r1_zero.variants import VARIANTS
from irl_jax.files import as_json
from irl_jax.models.decoder import DecoderConfig
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.composite import CompositeReward
from irl_jax.rewards.contract import of_group
from irl_jax.rewards.shaping import overlong_penalty
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import PolicyBatch, PolicyLoss, full, policy_objective
from irl_jax.train.online import train_online
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import Step, make_train_step, minibatch_epochs
from irl_jax.types import Group, InputError, LoopContext, PyTree, Rewarded

SAMPLING = Sampling(temperature=1.0)


class World:
    """A task and a seed: questions, and the policy that was shown a few worked solutions."""

    def __init__(self, config: Config, task: str, seed: int):
        """Draws the questions.

        Raises:
            InputError: there are too few different ones.
        """
        self.config, self.task, self.seed = config, task, seed
        self.questions = make_questions(task, config.drawn, seed=seed, **SETTINGS[task])
        text, solutions = self.questions.text, self.questions.solutions
        rest = range(config.held_out, len(text))
        shown = [i for i in rest if solutions[i] is not None][: config.policy.lessons]
        self.held_out = text[: config.held_out]
        self.lessons = [(text[i], solutions[i] or "") for i in shown]
        self.train = [text[i] for i in sorted({*rest} - {*shown})]
        if len(shown) < config.policy.lessons or len(self.train) < config.online.prompts:
            raise InputError(
                f"drawn: {config.drawn} draws of {task} gave {len(text)} different questions, too "
                f"few for {config.held_out} held out and {config.policy.lessons} lessons; raise it"
            )

    def key(self, purpose: int) -> Array:
        """A key of this seed."""
        return jax.random.fold_in(jax.random.key(self.seed), purpose)

    def policy(self, progress: Progress) -> dict[str, np.ndarray]:
        """Parameters of a policy that was shown the worked solutions, by path."""
        sft = self.config.policy
        params = train_policy(
            shape(sft),
            [(encode(question), [*encode(solution), EOS]) for question, solution in self.lessons],
            steps=sft.steps,
            batch_size=sft.batch_size,
            lr=sft.lr,
            seed=self.seed,
            progress=progress,
        )
        return flatten_dict(params, sep="/")

    def batches(self) -> Iterator[Any]:
        """Batches of training questions, in an order of their own each time round."""
        rng = np.random.default_rng([self.seed, 1])
        size = self.config.online.prompts
        while True:
            order = rng.permutation(len(self.train))
            for start in range(0, len(order) - size + 1, size):
                yield prompts([self.train[i] for i in order[start : start + size]], WIDTH)

    def attempt(self, params: PyTree) -> dict[str, np.ndarray]:
        """Attempts at the held-out questions: which are `right`, bool[Q, n], and their text."""
        group = sample(
            shape(self.config.policy), params, prompts(self.held_out, WIDTH), self.key(2),
            completions=self.config.attempts, max_new_tokens=LENGTH[self.task],
        )  # fmt: skip
        asked, said = completions(group)
        right = self.questions.right(asked, said).reshape(group.mask.shape[:2]) > 0
        return {"right": right, "said": np.array(said).reshape(right.shape)[:, :1]}


def shape(policy: PolicyConfig) -> DecoderConfig:
    """The shape of the policy."""
    return DecoderConfig(
        vocab_size=VOCABULARY,
        d_model=policy.width,
        n_layers=policy.layers,
        n_heads=4,
        n_kv_heads=4,
        head_dim=policy.width // 4,
        d_ff=2 * policy.width,
        max_positions=2 * (WIDTH + max(LENGTH.values())),
    )


sample = partial(generate, sampling=SAMPLING, eos_ids=(EOS,))


class Learner:
    """Trains policies by any variant; a loss is compiled once."""

    def __init__(self, config: Config):
        """Compiles nothing yet."""
        self.config = config
        self._steps: dict[tuple[PolicyLoss, int], Step] = {}

    def optimizer(self, batches: int) -> optax.GradientTransformation:
        """Of a run over so many batches."""
        online = self.config.online
        updates = batches * online.minibatches
        warmup = max(1, updates // 10)
        schedule = optax.warmup_cosine_decay_schedule(
            online.lr / (warmup + 1), online.lr, warmup, max(2, updates)
        )
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.95))

    def step(self, loss: PolicyLoss, batches: int) -> Step:
        """The updates on a batch."""
        if (loss, batches) not in self._steps:
            objective = policy_objective(shape(self.config.policy), full, loss, sampling=SAMPLING)
            step = minibatch_epochs(
                make_train_step(objective, self.optimizer(batches)),
                epochs=1,
                minibatches=self.config.online.minibatches,
            )
            self._steps[loss, batches] = jax.jit(step, donate_argnums=0)
        return self._steps[loss, batches]

    def __call__(
        self, world: World, params: PyTree, name: str, progress: Progress
    ) -> tuple[PyTree, dict[str, np.ndarray]]:
        """The policy after `rollouts` batches, and what each of these was like.

        Args:
            world: task and seed.
            params: where to start.
            name: of the variant.
            progress: shows the updates.

        Returns:
            Parameters; means of each batch in the order drawn, f64[rollouts], and `clipped`,
            the share of tokens at the clip, of each batch learned from.
        """
        variant, online, length = VARIANTS[name], self.config.online, LENGTH[world.task]
        parts = {
            "accuracy": (of_group(accuracy(world.questions)), online.accuracy),
            "format": (of_group(form), online.format),
        }
        if variant.overlong:
            penalty = lambda g: overlong_penalty(g.mask, limit=length, buffer=variant.overlong)
            parts["overlong"] = (of_group(penalty), 1.0)
        several = CompositeReward(parts)
        batches = online.rollouts // (1 + variant.resample)
        drawn: list[dict[str, float]] = []
        clipped: list[Array] = []

        def reward(group: Group, context: LoopContext) -> Rewarded:
            said = several(group, context)
            drawn.append(
                {
                    "accuracy": float(said.parts["accuracy"].mean()),
                    "entropy": float(-group.logp.sum() / group.mask.sum()),
                    "tokens": float(group.mask.sum(-1).mean()),
                    "cut": float(1 - group.terminated.mean()),
                }
            )
            return said

        def update(state: TrainState, *batch: Any) -> tuple[TrainState, dict[str, Array]]:
            state, metrics = self.step(variant.loss, batches)(state, *batch)
            clipped.append(metrics["clip_fraction"])
            return state, metrics

        state = train_online(
            update,
            init_state(params, self.optimizer(batches), world.key(3)),
            world.batches(),
            rollout=lambda params, batch, key: sample(
                shape(self.config.policy),
                params,
                batch,
                key,
                completions=online.completions,
                max_new_tokens=length,
            ),
            reward=reward,
            steps=batches,
            resample=variant.resample,
            decides="accuracy",
            prepare=of_group(lambda g: PolicyBatch(g, variant.advantage(g.reward))),
            frozen=(None,),
            progress=progress,
            stage=f"{world.task} {world.seed} {variant.label}",
        )
        found = {k: np.array([row[k] for row in drawn]) for k in drawn[0]}
        return state.params, {**found, "clipped": np.array(clipped)}


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    tasks = [task for task in WRITTEN if getattr(config, task)]
    worlds = [World(config, task, seed) for task in tasks for seed in range(config.seeds)]
    launch(config, partial(experiment, config, worlds), conclusion)


def experiment(config: Config, worlds: list[World], run: RunDirectory, progress: Progress) -> None:
    """Trains and tests every variant on every task and seed, reports."""
    clock = Clock(run.path / "seconds.json")
    learner = Learner(config)
    results: dict[str, list[Result]] = {}
    for world in worlds:
        where = f"{world.task}_{world.seed}"
        with clock("show worked solutions"):
            flat = kept(run, f"policy_{where}", partial(world.policy, progress))
        params = jax.tree.map(jnp.asarray, unflatten_dict(flat, sep="/"))
        with clock("test"):
            before = kept(run, f"before_{where}", partial(world.attempt, params))
        after = {}
        for name in getattr(config, world.task):

            def learn(
                w: World = world, p: PyTree = params, name: str = name
            ) -> Mapping[str, np.ndarray]:
                with clock("reinforce"):
                    trained, drawn = learner(w, p, name, progress)
                with clock("test"):
                    return {**drawn, **w.attempt(trained)}

            after[name] = kept(run, f"{name}_{where}", learn)
        results.setdefault(world.task, []).append(Result(world.held_out, before, after))
    labels = {name: variant.label for name, variant in VARIANTS.items()}
    per_batch = config.online.prompts * config.online.completions
    summary: dict[str, Any] = {
        "tasks": {
            task: summarise(each, labels=labels, ks=config.ks, per_batch=per_batch)
            for task, each in results.items()
        },
        "seconds": clock.seconds,
    }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))
