"""Rewards that a language model gives as a judge: ratings, comparisons of pairs, rubrics.

What it said goes into `judgements.jsonl` of the run, a line for each question: `record`, the number
of the record; `shown`, the numbers of its responses that were shown; and `texts` with `said`, what
was read from them (null: nothing), or `log_odds`, or `criteria`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.data.encode import Encoder
from irl_jax.data.jsonl import GroupRecord, PromptRecord
from irl_jax.files import read_text, write_atomic
from irl_jax.recipes.examples import as_text, template_of
from irl_jax.recipes.judging import word_log_odds
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.parts import Scorer
from irl_jax.recipes.sample import SampleCommand, sample
from irl_jax.recipes.score_config import ScoreConfig
from irl_jax.recipes.scorers import required
from irl_jax.rewards.judge import TEMPLATE, VERDICTS, verdict
from irl_jax.rewards.reasoning_judge import (
    PAIR,
    RATING,
    check_template,
    parse_rating,
    parse_verdict,
    rewards_of_pairs,
    win_log_odds,
)
from irl_jax.rewards.rubrics import ANSWERS, QUESTION, explicit_aggregate, read_rubric
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.progress import Progress
from irl_jax.types import InputError

FILE = "judgements.jsonl"
TEMPLATES = {
    "rating": (RATING, ("request", "response", "lowest", "highest")),
    "pair": (PAIR, ("request", "first", "second")),
    "letter": (TEMPLATE, ("request", "first", "second")),
    "rubric": (QUESTION, ("request", "response", "criterion")),
}
"""What is asked -> (the text, its fields)."""


@dataclass(frozen=True)
class Question:
    """What a judge is asked.

    Attributes:
        record: number of the record.
        shown: numbers of its responses that are shown, in their order.
        prompt: the text.
    """

    record: int
    shown: tuple[int, ...]
    prompt: PromptRecord


@dataclass(frozen=True)
class Judge:
    """A language model that is asked.

    Attributes:
        config: how.
        model: the model.
        encoder: how it reads a question.
        template: of a question.
        place: directory of the run.
        progress: shows the judging.
    """

    config: ScoreConfig
    model: LanguageModel
    encoder: Encoder
    template: str
    place: Path
    progress: Progress

    @classmethod
    def load(cls, config: ScoreConfig, place: Path, progress: Progress) -> Judge:
        """The judge of a configuration.

        Raises:
            InputError: no such model or template; question and critique exceed its context.
        """
        template = question_template(config)
        model = load_language_model(
            required(config.model, config.reward), place, seed=config.seed,
            dtype=config.read.dtype, progress=progress, tokenizer=config.read.tokenizer,
        )  # fmt: skip
        writes = config.reward == "judge" and config.judge.asks != "letter"
        room, context = config.judge.max_new_tokens if writes else 1, model.config.max_positions
        most = config.read.max_prompt or context - room
        if not 1 <= most <= context - room:
            raise InputError(
                f"read.max_prompt: {max(most, 1)} tokens of a question and {room} of an answer "
                f"exceed the model's context of {context}; lower it, or judge.max_new_tokens"
            )
        chat = template_of(config.read.chat or "model", model.tokenizer)
        encoder = Encoder(model.tokenizer, most, 8, template=chat, overlong=config.read.overlong)
        return cls(config, model, encoder, template, place, progress)

    def ask(self, group: GroupRecord, record: int, shown: Sequence[int], **fields: Any) -> Question:
        """A question about responses of a record."""
        if group.tools:
            raise InputError(
                f"{group.source}: has `tools`, which a judge is not shown; leave the line out"
            )
        text = self.template.format(request=as_text(group.prompt), **fields)
        return Question(record, tuple(shown), PromptRecord(text, {}, group.source))

    def log_odds(self, questions: Sequence[Question], words: tuple[str, str]) -> np.ndarray:
        """See `word_log_odds`, f32[N]."""
        return word_log_odds(
            self.model, self.encoder, [q.prompt for q in questions], words,
            batch_size=self.config.read.batch_size,
            advance=self.progress.stage("questions", len(questions)),
        )  # fmt: skip

    def read(
        self, questions: Sequence[Question], parse: Callable[[str], float | None], nothing: float
    ) -> np.ndarray:
        """What the judge's critiques come to, f64[N, samples]; they are kept.

        Args:
            questions: N of them.
            parse: a critique to a number; None where it says nothing.
            nothing: what stands for None.
        """
        judge, read = self.config.judge, self.config.read
        command = SampleCommand(
            completions=judge.samples, temperature=judge.temperature,
            max_new_tokens=judge.max_new_tokens, seed=self.config.seed, batch_size=read.batch_size,
        )  # fmt: skip
        prompts = self.encoder.prompts([question.prompt for question in questions])
        texts = sample(command, self.model, prompts, self.progress)
        said = [[parse(text) for text in own] for own in texts]
        self.keep(questions, [{"said": s, "texts": t} for s, t in zip(said, texts, strict=True)])
        return np.array([[nothing if x is None else x for x in own] for own in said])

    def keep(self, questions: Sequence[Question], said: Sequence[Mapping[str, Any]]) -> None:
        """Writes `FILE`."""
        rows = (
            {"record": question.record, "shown": question.shown, **own}
            for question, own in zip(questions, said, strict=True)
        )
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(self.place / FILE, lines.encode())


def check_questions(config: ScoreConfig) -> None:
    """Checks what a judge is to be asked, before anything is loaded.

    Raises:
        InputError: as `question_template` and `read_rubric`.
    """
    question_template(config)
    if config.rubric is not None:
        read_rubric(config.rubric)


def question_template(config: ScoreConfig) -> str:
    """The text with fields that a judge is asked.

    Raises:
        InputError: the file cannot be read, or has other fields.
    """
    own, fields = TEMPLATES["rubric" if config.reward == "rubric" else config.judge.asks]
    path = config.judge.template
    if path is None:
        return own
    template = read_text(path)
    check_template(template, fields, f"judge.template: {path}")
    return template


def judge_scorer(config: ScoreConfig, place: Path, progress: Progress) -> Scorer:
    """The rewards of a judge.

    * rating: the mean of the ratings; the middle of the scale where a critique has none.
    * pair: log-odds of the win, of critiques in both orders, between every two responses of a
      prompt, and the rewards nearest to them. A critique without a verdict is a tie.
    * letter: the same with the log-odds of the verdict's token, without a critique.
    """
    judge = Judge.load(config, place, progress)
    return lambda groups: (rate if config.judge.asks == "rating" else compare)(judge, groups)


def rate(judge: Judge, groups: Sequence[GroupRecord]) -> list[np.ndarray]:
    """Mean ratings of every response, f64[K] a group."""
    low, high = judge.config.judge.lowest, judge.config.judge.highest
    scale = {"lowest": f"{low:g}", "highest": f"{high:g}"}
    questions = [
        judge.ask(group, i, [k], response=as_text(response), **scale)
        for i, group in enumerate(groups)
        for k, response in enumerate(group.completions)
    ]
    found = judge.read(questions, lambda text: parse_rating(text, low, high), (low + high) / 2)
    return np.split(found.mean(1), np.cumsum([len(group.completions) for group in groups])[:-1])


def compare(judge: Judge, groups: Sequence[GroupRecord]) -> list[np.ndarray]:
    """Rewards out of comparisons of every two responses of a group, f64[K] a group."""
    questions = [
        judge.ask(group, i, shown, **dict(zip(("first", "second"), texts, strict=True)))
        for i, group in enumerate(groups)
        for pair in combinations(range(len(group.completions)), 2)
        for shown in (pair, pair[::-1])
        for texts in [[as_text(group.completions[k]) for k in shown]]
    ]
    if judge.config.judge.asks == "letter":
        z = judge.log_odds(questions, VERDICTS)
        judge.keep(questions, [{"log_odds": float(x)} for x in z])
        ahead = np.asarray(verdict(jnp.asarray(z[::2]), jnp.asarray(z[1::2])).preference)
    else:
        shares = judge.read(questions, parse_verdict, 0.5)
        ahead = win_log_odds(shares[::2], shares[1::2])
    d = [np.zeros(2 * [len(group.completions)]) for group in groups]
    for question, own in zip(questions[::2], ahead, strict=True):
        i, j = question.shown
        d[question.record][i, j], d[question.record][j, i] = own, -own
    return [rewards_of_pairs(each) for each in d]


def rubric_scorer(config: ScoreConfig, place: Path, progress: Progress) -> Scorer:
    """Weighted mean of the probabilities that the judge says yes to each criterion."""
    criteria = read_rubric(config.rubric) if config.rubric else []
    judge = Judge.load(config, place, progress)
    weights = jnp.array([criterion.weight for criterion in criteria])

    def score(groups: Sequence[GroupRecord]) -> list[np.ndarray]:
        questions = [
            judge.ask(group, i, [k], response=as_text(response), criterion=criterion.text)
            for i, group in enumerate(groups)
            for k, response in enumerate(group.completions)
            for criterion in criteria
        ]
        z = judge.log_odds(questions, ANSWERS).reshape(-1, len(criteria))
        met = jax.nn.sigmoid(z)
        rows = np.asarray(met, np.float64)
        judge.keep(questions[:: len(criteria)], [{"criteria": row.tolist()} for row in rows])
        found = np.asarray(explicit_aggregate(met, weights), np.float64)
        return np.split(found, np.cumsum([len(group.completions) for group in groups])[:-1])

    return score


JUDGES: Mapping[str, Callable[[ScoreConfig, Path, Progress], Scorer]] = {
    "judge": judge_scorer,
    "rubric": rubric_scorer,
}
"""Name -> maker of a scorer: (settings, directory of the run, progress)."""
