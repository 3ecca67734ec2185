"""The study of `experiments.process_rewards`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.arithmetic.chain_sums import (
    EOS,
    Question,
    Solutions,
    decode,
    encode,
    policy_config,
    prompt_tokens,
    prompts,
    questions,
    sample,
    solution_tokens,
    train_policy,
)
from experiments.process_rewards.config import Config
from experiments.process_rewards.judges import (
    fit_implicit,
    fit_judge,
    implicit_rewards,
    judge_logits,
    label_steps,
    outcomes,
    read_steps,
)
from experiments.process_rewards.report import Result, conclusion, summarise, write_report
from irl_jax.files import as_json
from irl_jax.models.decoder import DecoderConfig
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.process import last, mean, minimum, product
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import PyTree

AGGREGATIONS = {"min": minimum, "product": product, "last": last, "mean": mean}


class World:
    """One seed: a policy, its solutions of training questions with labels, and held-out ones."""

    def __init__(
        self, config: Config, seed: int, asked: list[Question], run: RunDirectory,
        progress: Progress, clock: Clock,
    ):  # fmt: skip
        """Makes it all, or reads what is there.

        Args:
            config: of the experiment.
            seed: of the policy and of what it samples.
            asked: lessons, training questions and held-out questions, in this order.
            run: keeps what is made.
            progress: shows the stages.
            clock: times them.
        """
        task = config.task
        self.config, self.seed = config, seed
        self.shape: DecoderConfig = policy_config(
            task.terms, task.digits, width=task.width, layers=task.layers
        )
        held_out = len(asked) - config.held_out
        train = asked[task.lessons : held_out]
        lessons = [(encode(q.text), [*encode(q.solution), EOS]) for q in asked[: task.lessons]]

        def policy() -> Mapping[str, np.ndarray]:
            params = train_policy(
                self.shape, lessons, steps=task.steps, batch_size=task.batch_size, lr=task.lr,
                seed=seed, progress=progress,
            )  # fmt: skip
            return flatten_dict(params, sep="/")

        with clock("train policies"):
            self.params: PyTree = jax.tree.map(
                jnp.asarray, unflatten_dict(kept(run, f"policy_{seed}", policy), sep="/")
            )
        with clock("sample solutions"):
            self.train = self._solutions(run, "train", train, config.solutions, 0)
            self.held_out = self._solutions(run, "held_out", asked[held_out:], config.candidates, 1)
        with clock("label steps by rollouts"):
            self.labels = kept(
                run,
                f"labels_{seed}",
                lambda: label_steps(
                    self.shape, self.params, self.train, self.key(2), rollouts=config.rollouts,
                    sampling=config.sampling, batch_size=256, progress=progress,
                ),
            )  # fmt: skip
        with clock("sample solutions"):
            share = round(1 + int(self.labels["tokens"]) / self.train.tokens)
            self.more = self._solutions(run, "more", train, share * config.solutions, 3)

    def key(self, purpose: int) -> jax.Array:
        """A key of this seed."""
        return jax.random.fold_in(jax.random.key(self.seed), purpose)

    def _solutions(
        self, run: RunDirectory, name: str, asked: list[Question], completions: int, purpose: int
    ) -> Solutions:
        """K solutions of each question, kept as NAME_SEED.npz."""
        task = self.config.task
        width = prompt_tokens(task.terms, task.digits)

        def make() -> Mapping[str, np.ndarray]:
            drawn = sample(
                self.shape,
                self.params,
                asked,
                self.key(purpose),
                completions=completions,
                width=width,
                max_new_tokens=solution_tokens(task.terms, task.digits),
                sampling=self.config.sampling,
            )
            return {"action": drawn.action, "mask": drawn.mask}

        return Solutions(asked, prompts(asked, width), **kept(run, f"{name}_{self.seed}", make))


def judgements(world: World, advance: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Name of the judge -> what it says at the end of each step, logits f64[Q, K, T].

    Args:
        world: a seed's policy, labels and held-out solutions.
        advance: told the name of each judge done.
    """
    config, train, more, held_out = world.config, world.train, world.more, world.held_out
    read = partial(read_steps, world.shape, world.params, most=config.task.terms + 2)
    few, many, unseen = read(train), read(more), read(held_out)
    outcome = lambda x: np.broadcast_to(x.right()[..., None], x.mask.shape)
    rows = {
        "PRM, soft labels": (few, few.labelled(world.labels["soft"])),
        "PRM, hard labels": (few, few.labelled(world.labels["hard"])),
        "outcome at every step": (few, few.labelled(outcome(train))),
        "ORM": (few, few.labelled(outcome(train), only_last=True)),
        "ORM, equal tokens": (many, many.labelled(outcome(more), only_last=True)),
        "outcome at every step, equal tokens": (many, many.labelled(outcome(more))),
    }
    says: dict[str, np.ndarray] = {"policy's log-prob": unseen.logp}
    for i, (name, (steps, labels)) in enumerate(rows.items()):
        fitted = fit_judge(steps, labels, world.key(10 + i), judge=config.judge)
        says[name] = judge_logits(fitted, unseen, held_out.mask.shape[-1])
        advance(name)
    implicit = fit_implicit(
        world.shape, world.params, outcomes(train), world.key(20), judge=config.judge
    )
    rewards = implicit_rewards(
        world.shape, implicit, world.params, held_out.context, held_out.action,
        held_out.mask, held_out.end, beta=config.judge.beta,
    )  # fmt: skip
    says["implicit PRM, step rewards"] = np.asarray(rewards, np.float64)
    says["implicit PRM, q"] = says["implicit PRM, step rewards"].cumsum(-1)
    advance("implicit PRM")
    return says


def solution_scores(says: Mapping[str, np.ndarray], solutions: Solutions) -> dict[str, np.ndarray]:
    """Selector -> score of each solution, f64[Q, K].

    Args:
        says: what each judge says at the end of each step f64[Q, K, T], or of a whole
            solution f64[Q, K].
        solutions: those that are judged.
    """
    scores = {}
    for name, logits in says.items():
        if logits.ndim == 2:
            scores[name] = logits
            continue
        rules = ["last"] if name.startswith("ORM") or name.endswith("q") else list(AGGREGATIONS)
        rules = ["min"] if name.endswith("rewards") else rules
        for rule in rules:
            aggregate = AGGREGATIONS[rule]
            score = aggregate(jnp.asarray(logits, jnp.float32), jnp.asarray(solutions.end))
            scores[f"{name} / {rule}"] = np.asarray(score, np.float64)
    text = [question.text + decode(ids) for _, _, question, ids in solutions.each()]
    _, number = np.unique(text, return_inverse=True)
    noise = np.random.default_rng(0).random(len(text))
    scores["noise, the same for equal solutions"] = noise[number].reshape(solutions.mask.shape[:2])
    return scores


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    task = config.task
    total = task.lessons + config.questions + config.held_out
    asked = [
        questions(total, terms=task.terms, digits=task.digits, seed=seed)
        for seed in range(config.seeds)
    ]
    launch(config, partial(experiment, config, asked), conclusion)


def experiment(
    config: Config, asked: list[list[Question]], run: RunDirectory, progress: Progress
) -> None:
    """Trains, samples, labels and judges for every seed, reports."""
    clock = Clock(run.path / "seconds.json")
    results = []
    for seed in range(config.seeds):
        world = World(config, seed, asked[seed], run, progress, clock)

        def judge(world: World = world) -> dict[str, np.ndarray]:
            bar = progress.stage(f"judges {world.seed}", 7)
            done: list[str] = []

            def advance(name: str) -> None:
                done.append(name)
                bar(len(done), {})

            return judgements(world, advance)

        with clock("train judges"):
            says = kept(run, f"judges_{seed}", judge)
        scores = solution_scores(says, world.held_out)
        results.append(
            Result(world.train, world.labels, world.more.tokens, world.held_out, says, scores)
        )
    with clock("measure"):
        summary = summarise(results)
    summary["seconds"] = clock.seconds
    write_report(run, as_json(summary))
    run.finish(as_json(summary))
