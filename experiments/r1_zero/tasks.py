"""Tasks of reasoning-gym for a small model that reads and writes characters.

A question is written short, `7-12+5=` or `4 6 8>8`; a worked solution has a line for each
operation and the answer after `#`. reasoning-gym's own verifier says what is right.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.arithmetic.chain_sums import SPACING, solve
from irl_jax.data.batches import collate_prompts
from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord
from irl_jax.rewards.reasoning_gym import ReasoningTask, reasoning_task
from irl_jax.rewards.text import after, matches
from irl_jax.types import Group, InputError, Prompt

ALPHABET = "\n0123456789+-*/()=# >"  # ids 1, 2, ...
EOS = 0  # ends a solution; also fills
VOCABULARY = 1 + len(ALPHABET)
# lines "a+b=c", then the answer
FORM = matches(r"(?:-?\d+[-+*/]-?\d+=-?\d+\n){1,9}#[-+*/()\d]{1,40}")
WIDTH = 12  # tokens of a question, at most
# task -> tokens of a completion, at most; the longest worked solutions have 21 and 31
LENGTH: Mapping[str, int] = {"chain_sum": 24, "countdown": 32}
# task -> settings of reasoning-gym
SETTINGS: Mapping[str, Mapping[str, int]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    "countdown": {
        "min_numbers": 3, "max_numbers": 3, "min_value": 1, "max_value": 12,
        "min_target": 1, "max_target": 40,
    },
}  # fmt: skip

_OPERATIONS: Mapping[type, tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}


def encode(text: str) -> list[int]:
    """Ids of the characters."""
    return [1 + ALPHABET.index(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    """The characters of ids, EOS left out."""
    return "".join(ALPHABET[i - 1] for i in ids if i != EOS)


def chain_sum_question(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """A chain of sums and its worked solution."""
    question = solve(metadata["expression"])
    return question.text, question.solution


def countdown_question(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Numbers and a target, and the worked solution that reasoning-gym had in mind.

    The numbers are in order, so that the same ones are the same question. There is no
    solution where it needs a sign or a fraction on the way.

    Example:
        >>> about = {"numbers": [6, 4, 8], "target": 8, "expression": "4*(8 - 6)"}
        >>> countdown_question(about)
        ('4 6 8>8', '8-6=2\\n4*2=8\\n#4*(8-6)')
    """
    numbers = " ".join(str(n) for n in sorted(metadata["numbers"]))
    expression = metadata["expression"].replace(" ", "")
    lines: list[str] = []

    def value(node: ast.expr) -> Fraction | None:
        match node:
            case ast.Constant(value=int(number)):
                return Fraction(number)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                sign, apply = _OPERATIONS[type(op)]
                a, b = value(left), value(right)
                if a is None or b is None or (sign == "/" and b == 0):
                    return None
                result = apply(a, b)
                lines.append(f"{a}{sign}{b}={result}")
                return result if result.denominator == 1 and result >= 0 else None
        return None

    whole = value(ast.parse(expression, mode="eval").body)
    solution = None if whole is None else "\n".join([*lines, f"#{expression}"])
    return f"{numbers}>{metadata['target']}", solution


# task of reasoning-gym -> metadata of a question -> how it is written, and its solution
WRITTEN: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str | None]]] = {
    "chain_sum": chain_sum_question,
    "countdown": countdown_question,
}


@dataclass(frozen=True)
class Questions:
    """Questions of a task that are all different, and their verifier.

    Attributes:
        task: reasoning-gym's.
        text: the questions as the policy reads them.
        solutions: worked; None where there is none to show.
        records: text -> reasoning-gym's own.
    """

    task: ReasoningTask
    text: list[str]
    solutions: list[str | None]
    records: Mapping[str, PromptRecord]
    _known: dict[tuple[str, str], float] = field(default_factory=dict)

    def right(self, asked: Sequence[str], said: Sequence[str]) -> np.ndarray:
        """1 where the verifier gives full marks, f32[N]; it has part marks, too.

        Args:
            asked: N questions.
            said: N solutions.
        """
        answers = [self.task.extract(s) or "" for s in said]
        pairs = list(zip(asked, answers, strict=True))
        new = sorted({pair for pair in pairs if pair not in self._known})
        scores = self.task([f"#{a}" for _, a in new], [self.records[q] for q, _ in new])
        self._known.update(zip(new, (scores >= 1.0).tolist(), strict=True))
        return np.array([self._known[pair] for pair in pairs], np.float32)


def make_questions(name: str, count: int, *, seed: int, **settings: int) -> Questions:
    """Different questions of a task, the same ones for the same seed.

    Args:
        name: of the task; one of `WRITTEN`.
        count: how many to draw; equal ones are taken once.
        seed: of the questions.
        settings: of the task, see reasoning-gym.

    Raises:
        InputError: no such task, or reasoning-gym is not installed.
    """
    if name not in WRITTEN:
        raise InputError(f"task: no {name!r}; choose one of {', '.join(WRITTEN)}")
    task = reasoning_task(
        name, size=count, seed=seed * SPACING, instruction="", extract=after("#"), **settings
    )
    text, solutions, records = [], [], {}
    for record in task.records:
        question, solution = WRITTEN[name](record.fields["metadata"])
        if question not in records:
            text.append(question)
            solutions.append(solution)
            records[question] = record
    return Questions(task, text, solutions, records)


def prompts(asked: Sequence[str], width: int) -> Prompt:
    """Questions as a batch, i32[Q, width], left-padded."""
    items = [EncodedPrompt(encode(q), PromptRecord(q, {}, q)) for q in asked]
    return collate_prompts(items, (width,), pad_id=EOS)


def completions(group: Group) -> tuple[list[str], list[str]]:
    """The question and the solution of each completion, B x K of each, row by row.

    A solution that was cut is "".
    """
    context, action = np.asarray(group.context.tokens), np.asarray(group.action)
    mask, ended = np.asarray(group.mask), np.asarray(group.terminated)
    asked = [decode(row) for row in context.tolist()]
    said = [
        decode(action[b, k][mask[b, k]].tolist()) if ended[b, k] else ""
        for b, k in np.ndindex(*ended.shape)
    ]
    return [q for q in asked for _ in range(ended.shape[1])], said


def accuracy(questions: Questions) -> Callable[[Group], Array]:
    """The reward of right answers, (group) -> f32[B, K] of 0 and 1."""

    def reward(group: Group) -> Array:
        right = questions.right(*completions(group))
        return jnp.asarray(right.reshape(group.mask.shape[:2]))

    return reward


def form(group: Group) -> Array:
    """The reward of form, f32[B, K]: 1 for lines of sums and then an answer, right or not."""
    well_formed = FORM(completions(group)[1]).reshape(group.mask.shape[:2])
    return jnp.asarray(well_formed, jnp.float32)
