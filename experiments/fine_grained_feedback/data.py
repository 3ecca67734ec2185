"""Answers to questions, compared by people, one of each four marked where it is wrong.

The file is QA-Feedback's dev_feedback.json (Wu et al. 2023): a JSON array of questions
with passages and four sampled answers. `preference` compares them two by two, 1-2, 1-3,
1-4, 2-3, 2-4, 3-4: 1 or 2 says which of the two is preferred, 0 neither. `feedback`
is on the first answer alone: spans of characters with errors, and what it leaves out.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.spans import Span, part_ends, sentence_ends, touched
from irl_jax.types import InputError

ANSWERS = 4
PAIRS = tuple(itertools.combinations(range(ANSWERS), 2))  # in the order of `preference`
RELEVANCE, FACTS, COMPLETENESS = KINDS = ("relevance", "facts", "completeness")
KIND_OF = {
    "Irrelevant": RELEVANCE,
    "Redundant": RELEVANCE,
    "Incoherent": RELEVANCE,
    "Wrong-Grounding": FACTS,
    "Unverifiable": FACTS,
}
MIN_WORDS = 5  # of a part of a sentence, and of a span of `RELEVANCE` that counts


@dataclass(frozen=True)
class Example:
    """A question, four answers to it, and what people said of them.

    Attributes:
        question: the question.
        passages: titles and texts that the answers were to be drawn from.
        answers: the four answers.
        preference: 0, 1 or 2 for each of `PAIRS`: neither, the first, the second.
        spans: errors in the first answer, of kind `RELEVANCE` or `FACTS`.
        missing: whether the first answer leaves something out.
        source: `FILE: question N`.
    """

    question: str
    passages: list[str]
    answers: list[str]
    preference: list[int]
    spans: list[Span]
    missing: bool
    source: str

    def group(self) -> GroupRecord:
        """The question after the passages, and its answers."""
        prompt = "\n\n".join([*self.passages, f"Question: {self.question}"])
        return GroupRecord(prompt, list(self.answers), {}, self.source)


def read(path: Path | None) -> list[Example]:
    """The questions of a file.

    Raises:
        InputError: no path, a file or a field that cannot be read, too few questions.
    """
    if path is None:
        raise InputError(
            "data: no file of feedback; give one, --data dev_feedback.json "
            "(tasks/qa_feedback/data of github.com/allenai/FineGrainedRLHF)"
        )
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: broken JSON ({error}); fetch the file again") from error
    if not isinstance(rows, list) or len(rows) < 10:
        raise InputError(f"{path}: expected a JSON array of 10 questions or more")
    return [_example(row, f"{path}: question {i}") for i, row in enumerate(rows, start=1)]


def _example(row: dict[str, Any], source: str) -> Example:
    try:
        feedback = row["feedback"]
        example = Example(
            row["question"],
            [f"{title}: {' '.join(sentences)}" for title, *sentences in row["passages"]],
            [row[f"prediction {k}"] for k in range(1, ANSWERS + 1)],
            list(row["preference"]),
            [Span(e["start"], e["end"], KIND_OF[e["error type"]]) for e in feedback["errors"]],
            bool(feedback["missing-info"]),
            source,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: {type(error).__name__} {error}; expected the fields of QA-Feedback"
        ) from error
    if len(example.preference) != len(PAIRS) or not set(example.preference) <= {0, 1, 2}:
        raise InputError(f"{source}: `preference` is {example.preference}; expected six of 0, 1, 2")
    try:
        touched([len(example.answers[0])], example.spans)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return example


@dataclass(frozen=True)
class Cut:
    """An answer cut into parts of sentences.

    Attributes:
        ends: where each part ends, in characters.
        sentence: i32[G], the sentence of each part, 1, 2, ...
    """

    ends: list[int]
    sentence: np.ndarray


def cut(answer: str) -> Cut:
    """An answer cut into sentences, and these into parts."""
    ends, sentences = part_ends(answer, min_words=MIN_WORDS), sentence_ends(answer)
    return Cut(ends, (np.searchsorted(sentences, ends) + 1).astype(np.int32))


def labels(example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is wrong in the first answer.

    Returns:
        f32[G], 1 for a part of a sentence that is irrelevant, repeats or makes no sense;
        f32[S], 1 for a sentence with a false or unverifiable statement, NaN for one
        that has the other errors alone: annotators did not look for facts there;
        f32[1], 1 if something is missing.
    """
    answer = example.answers[0]
    of_kind = lambda kind: [span for span in example.spans if span.kind == kind]
    long = [
        span
        for span in of_kind(RELEVANCE)
        if len(answer[span.start : span.end].split()) >= MIN_WORDS
    ]
    sentences = sentence_ends(answer)
    false = touched(sentences, of_kind(FACTS))
    unseen = touched(sentences, of_kind(RELEVANCE)) & ~false
    return (
        touched(part_ends(answer, min_words=MIN_WORDS), long).astype(np.float32),
        np.where(unseen, np.nan, false).astype(np.float32),
        np.array([example.missing], np.float32),
    )
