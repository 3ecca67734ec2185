"""A student, its teachers, and the ways in which it may spend its compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.arithmetic.chain_sums import (
    Question,
    different,
    policy_config,
    prompt_tokens,
    solution_tokens,
)
from experiments.arithmetic.practice import (
    Model,
    Practice,
    distilled,
    flops_per_token,
    reinforced,
    shown,
)
from experiments.dense_or_sparse.config import Config
from irl_jax.models.decoder import DecoderConfig
from irl_jax.train.progress import Progress
from irl_jax.types import InputError

TERMS, DIGITS = 2, 1  # of a question; there are some 200
DRAWN = 4000  # questions that are drawn to find them all


class World:
    """Questions of a seed, a student that was shown a few solutions, and two teachers.

    Attributes:
        practised: questions that are practised; their solutions were not shown to the student.
        held_out: questions that nobody sees before the end.
        student: was shown `lessons`.
        teacher: larger, was shown the same.
        knowing: as large as the teacher, was shown the solutions of what is practised, too.
    """

    def __init__(self, config: Config, seed: int, progress: Progress):
        """Draws the questions and trains the models.

        Raises:
            InputError: there are too few different questions.
        """
        self.config, self.seed = config, seed
        every = different(DRAWN, terms=TERMS, digits=DIGITS)
        order = np.random.default_rng([seed, 0]).permutation(len(every))
        asked = [every[i] for i in order]
        self.held_out, rest = asked[: config.held_out], asked[config.held_out :]
        lessons, self.practised = rest[: config.lessons], rest[config.lessons :]
        if len(self.practised) < config.prompts:
            raise InputError(
                f"lessons, held_out: of {len(every)} questions {len(self.practised)} are left "
                f"to practise, fewer than a batch ({config.prompts}); lower them"
            )
        solutions = lambda asked: [(question.text, question.solution) for question in asked]
        learn = lambda width, asked, steps, number: shown(
            shape_of(config, width), solutions(asked), steps=steps, batch_size=config.lessons,
            seed=3 * seed + number, progress=progress,
        )  # fmt: skip
        self.student = learn(config.student, lessons, config.shown, 0)
        self.teacher = learn(config.teacher, lessons, config.shown, 1)
        self.knowing = learn(config.teacher, rest, 2 * config.shown, 2)

    def accuracy(self, model: Model, asked: list[Question]) -> float:
        """The share of attempts at questions that end with the right answer."""
        practice = self.practice(self.config.lr, 1)
        return practice.accuracy(model, asked, attempts=self.config.attempts, seed=self.seed)

    def practice(self, lr: float, steps: int) -> Practice:
        """So many batches."""
        return Practice(
            prompts=self.config.prompts,
            completions=self.config.completions,
            width=prompt_tokens(TERMS, DIGITS),
            tokens=solution_tokens(TERMS, DIGITS),
            lr=lr,
            steps=steps,
        )


REINFORCE, TEACHER, DISTIL, IMITATE = (
    "GRPO",
    "GRPO of a teacher",
    "after a teacher",
    "its solutions",
)


def shape_of(config: Config, width: int) -> DecoderConfig:
    """The shape of a model of some width."""
    return policy_config(TERMS, DIGITS, width=width, layers=config.layers)


def costs(config: Config) -> dict[str, float]:
    """What a batch costs, in batches of GRPO of the student.

    A token is sampled by one forward pass, learned from by one and a backward pass, which counts
    twice, and read by a teacher by one of the teacher's.
    """
    small, large = (
        flops_per_token(shape_of(config, width)) for width in (config.student, config.teacher)
    )
    return {
        REINFORCE: 1.0,
        TEACHER: large / small,
        DISTIL: (4 * small + large) / (4 * small),
        IMITATE: (3 * small + 2 * large) / (4 * small),
    }


@dataclass(frozen=True)
class Spender:
    """Spends compute on a student of a world, in batches of GRPO of the student.

    Attributes:
        world: the student and its teachers.
        progress: shows the updates.
    """

    world: World
    progress: Progress

    def steps(self, what: str, budget: float) -> int:
        """Batches that a budget pays for; at least one."""
        return max(1, int(budget / costs(self.world.config)[what]))

    def reinforce(self, model: Model, budget: float, what: str = REINFORCE) -> Model:
        """A model after GRPO."""
        config, seed = self.world.config, self.world.seed
        lr = config.lr if what == REINFORCE else config.teacher_lr
        practice = self.world.practice(lr, self.steps(what, budget))
        batches = practice.batches(self.world.practised, seed)
        return reinforced(model, batches, practice, seed=seed, progress=self.progress, stage=what)

    def distil(self, teacher: Model, budget: float, what: str = DISTIL) -> Model:
        """The student after its teacher."""
        practice = self.world.practice(self.world.config.dense_lr, self.steps(what, budget))
        batches = practice.batches(self.world.practised, self.world.seed)
        return distilled(
            self.world.student, teacher, batches, practice,
            on_policy=what == DISTIL, seed=self.world.seed, progress=self.progress, stage=what,
        )  # fmt: skip


SPARSE, THEN_DISTIL = "reward at the end", "teacher by reward, then dense"
DENSE, IMITATED, THEN_SPARSE = "dense, knowing teacher", "its own solutions", "dense, then reward"
IGNORANT = "dense, ignorant teacher"

# arm -> (spender, budget) -> the student at the end
ARMS: dict[str, Callable[[Spender, float], Model]] = {
    SPARSE: lambda spend, budget: spend.reinforce(spend.world.student, budget),
    THEN_DISTIL: lambda spend, budget: spend.distil(
        spend.reinforce(spend.world.teacher, budget / 2, TEACHER), budget / 2
    ),
    DENSE: lambda spend, budget: spend.distil(spend.world.knowing, budget),
    IMITATED: lambda spend, budget: spend.distil(spend.world.knowing, budget, IMITATE),
    THEN_SPARSE: lambda spend, budget: spend.reinforce(
        spend.distil(spend.world.knowing, budget / 2), budget / 2
    ),
    IGNORANT: lambda spend, budget: spend.distil(spend.world.teacher, budget),
}
