"""Questions with a number for an answer: read, asked, graded, and a policy measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax import Array

from irl_jax.data.encode import EncodedPrompt, Encoder
from irl_jax.data.jsonl import PromptRecord
from irl_jax.data.lines import read_jsonl
from irl_jax.eval.best_of_n import vote
from irl_jax.eval.intervals import Interval, proportion
from irl_jax.masking import check_range
from irl_jax.models.mesh import fetch
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.text_rewards import PromptReader
from irl_jax.rewards.composite import CompositeReward
from irl_jax.rewards.contract import of_group
from irl_jax.rewards.numeric import last_number, number, numeric_verifier
from irl_jax.rewards.shaping import overlong_penalty
from irl_jax.rewards.text import after, boxed, first_of, stated, tagged
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import LanguageModel, Session
from irl_jax.train.keys import Stage
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, PyTree

EVALUATION = "evaluation"  # stage of the rows that `evaluate` writes
Reading = Literal["flexible", "marked"]
TRUTH = after("####")
MARKED = first_of(boxed, after("####"), tagged("answer"))
FLEXIBLE = first_of(MARKED, stated, last_number)


@dataclass(frozen=True)
class DataConfig:
    """Where questions come from and how they are asked."""

    train: Path | None = None  # train.jsonl of GSM8K: question, answer ending in #### NUMBER
    test: Path | None = None  # test.jsonl, of the same form; only measured on
    prompt: str = (  # what is asked, {question} in it
        "{question}\n\nReason step by step. End with a line '#### ' and the answer as a number."
    )
    chat: bool = True  # ask as a user's message in the model's chat template, if it has one
    max_prompt: int = 320  # tokens of a prompt, template included
    overlong: Literal["error", "drop"] = "error"  # what becomes of a longer prompt

    def __post_init__(self) -> None:
        check_range("data.max_prompt", self.max_prompt, 1)
        if "{question}" not in self.prompt:
            raise InputError("data.prompt: {question} is missing; say where the question stands")

    def files(self) -> tuple[Path, Path]:
        """Both paths, which there must be.

        Raises:
            InputError: one is missing.
        """
        for name, path in (("train", self.train), ("test", self.test)):
            if path is None:
                raise InputError(
                    f"data.{name}: no file of questions; get {name}.jsonl from "
                    f"github.com/openai/grade-school-math and give it, --data.{name} {name}.jsonl"
                )
        assert self.train is not None and self.test is not None
        return self.train, self.test


@dataclass(frozen=True)
class RewardConfig:
    """What a completion is rewarded for: Σ weight x term."""

    correct: float = 1.0  # weight of 1 for the right number, else 0
    format: float = 0.0  # weight of 1 for a number that is marked: ####, \boxed, <answer>
    overlong: float = 0.0  # weight of a penalty from 0 to -1 over the last tokens allowed
    buffer: int = 64  # last tokens that `overlong` penalises
    answer: Reading = "flexible"  # or, if it ended, "answer is", last number

    def __post_init__(self) -> None:
        check_range("reward.correct", self.correct, 0.0, exclusive=True)
        for name in ("format", "overlong"):
            check_range(f"reward.{name}", getattr(self, name), 0.0)


@dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is measured on the test file."""

    questions: int = 200  # first questions of the test file; all are 1319
    completions: int = 1  # completions of each question; with several also a majority vote
    temperature: float = 0.0  # divides the logits; 0 takes the likeliest token
    batch_size: int = 16  # questions at a time
    every: int = 0  # rollouts between measurements; 0: only before and after

    def __post_init__(self) -> None:
        check_range("evaluation.questions", self.questions, 2)
        check_range("evaluation.completions", self.completions, 1)
        check_range("evaluation.temperature", self.temperature, 0.0)
        check_range("evaluation.batch_size", self.batch_size, 1)
        check_range("evaluation.every", self.every, 0)
        if self.temperature == 0 and self.completions > 1:
            raise InputError(
                f"evaluation.completions: {self.completions} greedy ones are all the same; "
                "set evaluation.temperature above 0, or completions to 1"
            )


def read_questions(path: Path, prompt: str) -> list[PromptRecord]:
    """The questions of a file, each as it is asked.

    Args:
        path: JSON Lines, `.gz` if gzipped: `question`, and `answer` ending in #### NUMBER.
        prompt: {question} stands for the question.

    Raises:
        InputError: naming the line that lacks one of them.
    """
    records = []
    for line, row in read_jsonl(path):
        source = f"{path}:{line}"
        for name in ("question", "answer"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise InputError(f"{source}: no text `{name}` (fields: {', '.join(row)}); add it")
        answer = TRUTH(row["answer"])
        if answer is None or number(answer) is None:
            raise InputError(f"{source}: `answer` does not end in #### and a number; fix it")
        asked = prompt.replace("{question}", row["question"])
        records.append(PromptRecord(asked, row, source))
    return records


def encode(config: DataConfig, model: LanguageModel) -> tuple[list[EncodedPrompt], ...]:
    """Questions to train and to measure on, as token ids.

    Raises:
        InputError: a line that cannot be read, a prompt over the limit, nothing left, or
            two questions that are the same tokens and have different answers.
    """
    template = model.tokenizer.chat_template if config.chat else None
    encoder = Encoder(
        model.tokenizer, config.max_prompt, 1, template=template, overlong=config.overlong
    )
    found = []
    for path in config.files():
        items = encoder.prompts(read_questions(path, config.prompt))
        if len(items) < 2:
            raise InputError(f"{path}: fewer than 2 questions are left; raise data.max_prompt")
        answers: dict[tuple[int, ...], EncodedPrompt] = {}
        for item in items:
            same = answers.setdefault(tuple(item.prompt), item)
            if truth(same.record) != truth(item.record):
                raise InputError(
                    f"{item.source}: the question of {same.source} with another answer; remove one"
                )
        found.append(list(answers.values()))
    return tuple(found)


def truth(record: PromptRecord) -> str:
    """The answer of a question, without its derivation."""
    return TRUTH(record.fields["answer"]) or ""


@dataclass
class Grader:
    """Reads completions and compares their numbers with the right ones.

    Attributes:
        session: of whose model the completions are.
        items: every prompt that may be answered.
        answer: where the number of a completion is looked for, see `RewardConfig`.
    """

    session: Session
    items: Sequence[EncodedPrompt]
    answer: Reading

    def __post_init__(self) -> None:
        # nobody reads what is said of a row that fills a batch
        nothing = PromptRecord("", {"answer": "#### 0"}, "")
        self._reader = PromptReader(self.session, self.items, nothing)
        self._verify = numeric_verifier(lambda given: given, field="answer", extract_truth=TRUTH)

    def read(self, group: Group) -> tuple[list[PromptRecord], list[list[str]]]:
        """The B prompts of a group and the texts of their K completions each."""
        return self._reader.read(group)

    def correct(self, group: Group) -> Array:
        """1 where the number is right, f32[B, K]."""
        ended = fetch(group.terminated)
        found = []
        for record, texts, ends in zip(*self.read(group), ended, strict=True):
            given = [
                find_answer(text, bool(end), self.answer) or ""
                for text, end in zip(texts, ends, strict=True)
            ]
            found.append(self._verify(given, [record] * len(given)))
        return self._reader.place(found)

    def marked(self, group: Group) -> Array:
        """1 where a number is marked as the answer, f32[B, K]."""
        return self._reader.place(
            [[is_marked(text) for text in row] for row in self.read(group)[1]]
        )

    def reward(self, config: RewardConfig) -> CompositeReward:
        """The reward of completions, its terms by name."""
        terms = {"correct": (of_group(self.correct), config.correct)}
        if config.format:
            terms["format"] = (of_group(self.marked), config.format)
        if config.overlong:
            limit = self.session.max_new_tokens
            penalty = lambda g: overlong_penalty(g.mask, limit=limit, buffer=config.buffer)
            terms["overlong"] = (of_group(penalty), config.overlong)
        return CompositeReward(terms)


def find_answer(text: str, ended: bool, reading: Reading) -> str | None:
    """Where the answer of a completion stands: a guess only if the text came to its end.

    What a cut text broke off with is no answer, though it may happen to be the right number.

    Example:
        >>> [find_answer("6 * 3 = 18", ended, "flexible") for ended in (True, False)]
        ['18', None]
    """
    return (FLEXIBLE if ended and reading == "flexible" else MARKED)(text)


def is_marked(text: str) -> bool:
    """Whether a completion marks a number as its answer.

    Example:
        >>> is_marked("6 * 3 = 18"), is_marked("6 * 3 = 18\\n#### 18")
        (False, True)
    """
    answer = MARKED(text)
    return answer is not None and number(answer) is not None


def evaluate(
    training: Training,
    grader: Grader,
    items: Sequence[EncodedPrompt],
    config: EvaluationConfig,
    run: RunDirectory,
    progress: Progress,
    done: int,
    policy: PyTree,
) -> None:
    """Answers the test questions and writes every answer to the run's samples.

    Args:
        training: whose policy it is.
        grader: of the answers.
        items: the questions.
        config: how they are answered; the same random numbers for every policy.
        run: takes the rows of stage `EVALUATION`.
        progress: shows it.
        done: rollouts that the policy has learned from.
        policy: parameters of the decoder.
    """
    sampling = Sampling(temperature=config.temperature)
    found = replace(training.session, sampling=sampling).respond(
        policy, items, training.key(Stage.ANSWERS),
        completions=config.completions, batch_size=config.batch_size,
        advance=progress.stage(f"test questions, update {done}", len(items)),
        measure=lambda group, texts: {"correct": grader.correct(group)},
        reference=False,
    )  # fmt: skip
    run.rewind(done - 1, EVALUATION)
    for i, item in enumerate(items):
        row = {"source": item.record.source, "question": item.record.fields["question"]}
        row |= {"answer": truth(item.record), "completions": found.text[i]}
        row |= {"correct": found.values["correct"][i], "tokens": found.mask[i].sum(-1)}
        run.sample(done, row | {"ended": found.terminated[i]}, EVALUATION)


def results(run: RunDirectory, answer: Reading) -> dict[int, Mapping[str, Any]]:
    """Rollouts done -> what `evaluate` wrote of that policy, in numbers.

    Args:
        run: with rows of stage `EVALUATION`.
        answer: where the number of a completion is looked for.
    """
    by_step: dict[int, list[dict[str, Any]]] = {}
    for row in run.samples():
        if row["stage"] == EVALUATION:
            by_step.setdefault(row["step"], []).append(row)
    return {step: _measure(rows, answer) for step, rows in sorted(by_step.items())}


def _measure(rows: list[dict[str, Any]], answer: Reading) -> dict[str, Any]:
    correct = np.array([row["correct"] for row in rows], np.float64)
    texts = [row["completions"] for row in rows]
    majority: Interval | None = None
    if correct.shape[1] > 1:
        numbers = [
            [
                number(find_answer(text, ended, answer) or "")
                for text, ended in zip(row["completions"], row["ended"], strict=True)
            ]
            for row in rows
        ]
        label = [[-1 if n is None else row.index(n) for n in row] for row in numbers]
        majority = proportion(vote(label, correct, correct.shape[1]))
    return {
        "pass_at_1": proportion(correct.mean(1)),
        "majority": majority,
        "by_question": correct.mean(1),
        "marked": float(np.mean([[is_marked(text) for text in row] for row in texts])),
        "tokens": float(np.mean([row["tokens"] for row in rows])),
        "ended": float(np.mean([row["ended"] for row in rows])),
    }
