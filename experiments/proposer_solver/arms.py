"""A model, its held-out sums, and the ways in which the sums that it practises are chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.arithmetic.chain_sums import (
    Question,
    decode,
    different,
    policy_config,
    prompt_tokens,
    prompts,
    solution_tokens,
    solve,
)
from experiments.arithmetic.practice import (
    GRPO,
    Model,
    Practice,
    compiled,
    reinforced,
    rewarded,
    right_answers,
    shown,
)
from experiments.proposer_solver.config import Config
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.rewards.proposing import half_solved, parse_sum, proposer_reward
from irl_jax.train.objectives import PolicyBatch
from irl_jax.train.progress import Progress
from irl_jax.train.state import init_state
from irl_jax.types import Group, InputError, Prompt

DIGITS = 1
DRAWN = 2000  # sums of a level that are drawn to find different ones
ASK = "="  # after which a model writes a sum, as it writes a solution after "1+2="
PROPOSED, ALIKE, RANDOM = "proposed", "as many numbers, at random", "any numbers, at random"


class World:
    """Sums of a seed as people write them, and a model that was shown some, with solutions.

    Attributes:
        held_out: level -> sums that judge.
        lessons: sums that were shown.
        model: at the start.
    """

    def __init__(self, config: Config, seed: int, progress: Progress):
        """Draws the sums and trains the model.

        Raises:
            InputError: a level has too few different sums.
        """
        self.config, self.seed = config, seed
        rng = np.random.default_rng([seed, 0])
        self.held_out: list[list[Question]] = []
        self.lessons: list[Question] = []
        for terms in config.terms:
            every = different(DRAWN, terms=terms, digits=DIGITS)
            wanted = config.lessons + config.held_out
            if len(every) < wanted:
                raise InputError(
                    f"held_out: {terms} terms make {len(every)} different sums, fewer than "
                    f"{config.held_out} and {config.lessons} lessons; lower it"
                )
            taken = [every[i] for i in rng.permutation(len(every))[:wanted]]
            self.lessons += taken[: config.lessons]
            self.held_out.append(taken[config.lessons :])
        self._kept = {question.text for level in self.held_out for question in level}
        shape = policy_config(config.terms[-1], DIGITS, width=config.width, layers=config.layers)
        solutions = [(q.text, q.solution) for q in self.lessons]
        proposals = [(ASK, q.text[:-1]) for q in self.lessons]
        self.model = shown(
            shape, solutions + proposals,
            steps=config.shown, batch_size=config.shown_batch, seed=seed, progress=progress,
        )  # fmt: skip

    @property
    def practice(self) -> Practice:
        """The solver's."""
        config = self.config
        return Practice(
            prompts=config.prompts,
            completions=config.completions,
            width=prompt_tokens(config.terms[-1], DIGITS),
            tokens=solution_tokens(config.terms[-1], DIGITS),
            lr=config.lr,
            steps=config.batches,
        )

    def task(self, text: str) -> Question | None:
        """The question that a proposal is; None of what is no sum, or held out."""
        value = parse_sum(text, terms=self.config.terms[-1], digits=DIGITS)
        return None if value is None or f"{text}=" in self._kept else solve(text)

    def drawn(self, rng: np.random.Generator, terms: int) -> Question:
        """A sum of so many numbers at random, which is not held out."""
        while True:
            numbers, signs = rng.integers(0, 10**DIGITS, terms), rng.choice(["+", "-"], terms)
            text = "".join(f"{sign}{number}" for sign, number in zip(signs, numbers, strict=True))
            if (question := self.task(text[1:])) is not None:
                return question

    def accuracy(self, model: Model) -> list[float]:
        """The share of attempts at held-out sums with the right answer, of each level."""
        practice = replace(self.practice, completions=self.config.attempts)
        key = jax.random.fold_in(jax.random.key(self.seed), 7)
        return [
            float(
                right_answers(
                    practice.sample(model.config, model.params, prompts(asked, practice.width), key)
                ).mean()
            )
            for asked in self.held_out
        ]


def terms_of(question: Question) -> int:
    """Numbers of a sum.

    Example:
        >>> terms_of(solve("1 + 2 - 3"))
        3
    """
    return len(question.lines)


@dataclass
class Proposer:
    """A copy of the model that writes sums, and learns which are worth it.

    Attributes:
        world: whose model it begins as.
        asked: by batch, the sums that the solver was given.
        valid: by batch, the share of proposals that are tasks.
        different: by batch, the share of tasks of which there is no second in the batch.
        success: by batch, the share of right solutions of tasks.
    """

    world: World
    asked: list[list[Question]] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    different: list[float] = field(default_factory=list)
    success: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config, model = self.world.config, self.world.model
        self._practice = Practice(
            prompts=1, completions=config.prompts, width=len(ASK),
            tokens=prompt_tokens(config.terms[-1], DIGITS), lr=config.proposer_lr,
            steps=config.batches,
        )  # fmt: skip
        own = jax.tree.map(jnp.array, model.params)
        key = jax.random.fold_in(jax.random.key(self.world.seed), 3)
        self._state = init_state(own, self._practice.optimizer, key)
        self._step = compiled(rewarded(GRPO), self._practice, model.config)

    def batches(self) -> Iterator[Prompt]:
        """Proposals as questions; where one is no task, there is another of the batch again."""
        shape = self.world.model.config
        ask = Question(ASK, ())
        while True:
            key = jax.random.fold_in(self._state.key, len(self.asked))
            self._group = self._practice.sample(
                shape, self._state.params, prompts([ask], len(ASK)), key
            )
            self._tasks = [self.world.task(text) for text in texts(self._group)]
            found = [task for task in self._tasks if task is not None] or self.world.lessons
            fill = iter(found * len(self._tasks))
            self.asked.append([next(fill) if task is None else task for task in self._tasks])
            yield prompts(self.asked[-1], self.world.practice.width)

    def learn(self, group: Group) -> Group:
        """An update by what the solver made of the last proposals; the solver's group."""
        right = group.reward > 0
        valid = jnp.array([task is not None for task in self._tasks])
        counts = Counter(task.text for task in self._tasks if task is not None)
        often = jnp.array([1 if task is None else counts[task.text] for task in self._tasks])
        worth = worth_of(right, valid, often)
        batch = PolicyBatch(self._group, group_advantages(worth[None]))
        self._state, _ = self._step(self._state, batch, None)
        self.valid.append(float(valid.mean()))
        self.different.append(float((valid & (often == 1)).sum() / max(1, int(valid.sum()))))
        self.success.append(float(right.mean()))
        return group


def worth_of(right: Array, valid: Array, often: Array) -> Array:
    """R-Zero's reward of proposals, divided among those that are the same, f32[N].

    Args:
        right: bool[N, K], of the solver's solutions.
        valid: bool[N], which proposals are tasks.
        often: i32[N], how often a task is in the batch.

    Example:
        >>> right = jnp.array([[True, False], [True, False], [True, True]])
        >>> worth_of(right, jnp.array([True, True, False]), jnp.array([2, 1, 1])).tolist()
        [0.5, 1.0, -1.0]
    """
    reward = proposer_reward(right, valid, worth=half_solved)
    return jnp.where(valid, reward / often, reward)


def texts(group: Group) -> list[str]:
    """What was proposed; "" of what was cut."""
    action, mask, ended = map(np.asarray, (group.action, group.mask, group.terminated))
    return [
        decode(action[0, k][mask[0, k]].tolist()) if ended[0, k] else ""
        for k in range(ended.shape[1])
    ]


def proposed(world: World, progress: Progress) -> tuple[Model, Proposer]:
    """A solver after what a proposer wrote, and the proposer."""
    proposer = Proposer(world)
    model = _after(world, progress, PROPOSED, proposer.batches(), proposer.learn)
    return model, proposer


def at_random(
    world: World, progress: Progress, name: str, levels: Sequence[Sequence[int]] | None = None
) -> Model:
    """A solver after sums that were drawn at random.

    Args:
        world: whose model it begins as.
        progress: shows the updates.
        name: of the arm.
        levels: by batch, the numbers of each sum; drawn by default.
    """
    rng = np.random.default_rng([world.seed, 1 if levels is None else 2])

    def batches() -> Iterator[Prompt]:
        for batch in range(world.config.batches):
            own = rng.choice(world.config.terms, world.config.prompts)
            sizes = own if levels is None else levels[batch]
            asked = [world.drawn(rng, int(terms)) for terms in sizes]
            yield prompts(asked, world.practice.width)

    return _after(world, progress, name, batches())


def _after(
    world: World, progress: Progress, name: str, batches: Iterator[Prompt],
    choose: Callable[[Group], Group] = lambda group: group,
) -> Model:  # fmt: skip
    return reinforced(
        world.model, batches, world.practice, seed=world.seed, progress=progress, stage=name,
        choose=choose,
    )  # fmt: skip


def trained(world: World, progress: Progress) -> tuple[dict[str, Model], Proposer]:
    """The model after every arm, and the proposer of the first."""
    model, proposer = proposed(world, progress)
    sizes = [[terms_of(question) for question in asked] for asked in proposer.asked]
    drawn = partial(at_random, world, progress)
    return {PROPOSED: model, ALIKE: drawn(ALIKE, sizes), RANDOM: drawn(RANDOM)}, proposer
