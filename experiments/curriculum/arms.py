"""A model, its questions by level, and the ways in which the next ones are chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.arithmetic.chain_sums import (
    Question,
    decode,
    different,
    policy_config,
    prompt_tokens,
    prompts,
    solution_tokens,
)
from experiments.arithmetic.practice import Model, Practice, reinforced, shown
from experiments.curriculum.config import Config
from irl_jax.data.curriculum import learnable, level_logp, level_values, reverse_start
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, Prompt

DIGITS = 1
DRAWN = 4000  # questions of a level that are drawn to find different ones


class World:
    """Questions of a seed by level, and a model that was shown a few solutions.

    Attributes:
        practised: level -> its questions.
        model: at the start.
    """

    def __init__(self, config: Config, seed: int, progress: Progress):
        """Draws the questions and trains the model.

        Raises:
            InputError: a level has too few different questions.
        """
        self.config, self.seed = config, seed
        rng = np.random.default_rng([seed, 0])
        self.practised: list[list[Question]] = []
        lessons: list[Question] = []
        for terms, taught in zip(config.terms, config.lessons, strict=True):
            every = different(DRAWN, terms=terms, digits=DIGITS)
            if len(every) < taught + config.questions:
                raise InputError(
                    f"questions: {terms} terms make {len(every)} different ones, fewer than "
                    f"{config.questions} and {taught} lessons; lower it"
                )
            order = rng.permutation(len(every))[: taught + config.questions]
            asked = [every[i] for i in order]
            lessons += asked[:taught]
            self.practised.append(asked[taught:])
        shape = policy_config(config.terms[-1], DIGITS, width=config.width, layers=config.layers)
        self.model = shown(
            shape, [(q.text, q.solution) for q in lessons],
            steps=config.shown, batch_size=config.shown_batch, seed=seed, progress=progress,
        )  # fmt: skip

    def practice(self, batches: int) -> Practice:
        """So many batches."""
        config = self.config
        return Practice(
            prompts=config.prompts,
            completions=config.completions,
            width=prompt_tokens(config.terms[-1], DIGITS),
            tokens=solution_tokens(config.terms[-1], DIGITS),
            lr=config.lr,
            steps=batches,
        )

    def accuracy(self, model: Model) -> list[float]:
        """The share of attempts at practised questions with the right answer, of each level."""
        judge = partial(
            self.practice(1).accuracy, model, attempts=self.config.attempts, seed=self.seed
        )
        return [judge(asked) for asked in self.practised]


UNIFORM, HARDEST, RISING = "all levels alike", "the hardest level alone", "easy to hard"
FILTERED, BANDIT, REVERSE = "filtered by p(1 − p)", "a bandit over levels", "begun near the end"


def drawn(world: World, levels: Callable[[int], np.ndarray], count: int) -> Iterator[Prompt]:
    """Batches of questions of levels that are drawn for each.

    Args:
        world: whose questions.
        levels: number of the batch -> probability of each level, f64[C].
        count: questions of a batch.
    """
    rng = np.random.default_rng([world.seed, 1])
    width = world.practice(1).width
    batch = 0
    while True:
        found = rng.choice(len(world.practised), count, p=levels(batch))
        sizes = np.bincount(found, minlength=len(world.practised))
        asked = [
            world.practised[level][i]
            for level, size in enumerate(sizes)
            for i in rng.choice(world.config.questions, size, replace=False)
        ]
        yield prompts(asked, width)
        batch += 1


def fixed(world: World, progress: Progress, name: str) -> Model:
    """After levels that the number of the batch decides."""
    config, count = world.config, len(world.practised)
    level = {
        UNIFORM: lambda batch: np.full(count, 1 / count),
        HARDEST: lambda batch: np.eye(count)[-1],
        RISING: lambda batch: np.eye(count)[min(batch * count // config.batches, count - 1)],
    }[name]
    return _after(world, progress, name, drawn(world, level, config.prompts))


def filtered(world: World, progress: Progress, name: str) -> Model:
    """After the half of twice as many questions that has most to teach, p (1 − p)."""
    config, count = world.config, len(world.practised)

    def choose(group: Group) -> Group:
        kept, spread = learnable(group.reward > 0, low=config.low, high=config.high)
        best = jnp.argsort(-jnp.where(kept, spread, -1.0))[: config.prompts]
        return jax.tree.map(lambda x: x[best], group)

    batches = drawn(world, lambda batch: np.full(count, 1 / count), 2 * config.prompts)
    return _after(world, progress, name, batches, steps=config.batches // 2, choose=choose)


def bandit(world: World, progress: Progress, name: str) -> Model:
    """After levels of which the last answers had the largest advantages."""
    config, count = world.config, len(world.practised)
    value = jnp.zeros(count)

    def levels(batch: int) -> np.ndarray:
        logp = np.asarray(level_logp(value, temperature=config.temperature), np.float64)
        return np.exp(logp) / np.exp(logp).sum()

    def choose(group: Group) -> Group:
        nonlocal value
        advantage = group_advantages(group.reward)
        level = jnp.asarray(levels_of(world, group))
        value = level_values(value, level, advantage, rate=config.rate)
        return group

    return _after(world, progress, name, drawn(world, levels, config.prompts), choose=choose)


def levels_of(world: World, group: Group) -> np.ndarray:
    """The level of each prompt, i32[B]."""
    asked = [decode(row).split("=")[0] for row in np.asarray(group.context.tokens).tolist()]
    terms = [len(re.findall(r"\d+", question)) for question in asked]
    return np.array([world.config.terms.index(n) for n in terms], np.int32)


def begun(world: World, progress: Progress, name: str) -> Model:
    """After questions of the hardest level whose solution is begun, less of it in each stage."""
    config, practice = world.config, world.practice(1)

    def batches() -> Iterator[Prompt]:
        rng = np.random.default_rng([world.seed, 1])
        for batch in range(config.batches):
            stage = 1 + batch * config.stages // config.batches
            asked = [
                world.practised[-1][i]
                for i in rng.choice(config.questions, config.prompts, replace=False)
            ]
            given = [beginning(question, stage, config.stages) for question in asked]
            yield prompts(asked, practice.width + practice.tokens, given)

    return _after(world, progress, name, batches())


def beginning(question: Question, stage: int, stages: int) -> str:
    """The beginning of a solution that a stage gives.

    Example:
        >>> question = Question("1+2=", ("1+2=3", "#3"))
        >>> [beginning(question, stage, 4) for stage in (1, 2, 3, 4)]
        ['1+2=3\\n', '1+2=', '1+', '']
    """
    mask = jnp.ones(len(question.solution) + 1, bool)
    return question.solution[: int(reverse_start(mask, stage=stage, stages=stages))]


def _after(
    world: World,
    progress: Progress,
    name: str,
    batches: Iterator[Prompt],
    *,
    steps: int | None = None,
    choose: Callable[[Group], Group] = lambda group: group,
) -> Model:
    return reinforced(
        world.model,
        batches,
        world.practice(steps or world.config.batches),
        seed=world.seed,
        progress=progress,
        stage=name,
        choose=choose,
    )


# arm -> (world, progress, its name) -> the model at the end
ARMS: dict[str, Callable[[World, Progress, str], Model]] = {
    UNIFORM: fixed,
    HARDEST: fixed,
    RISING: fixed,
    FILTERED: filtered,
    BANDIT: bandit,
    REVERSE: begun,
}
