"""Judged responses to token ids: ratings, rankings, scored responses, labelled steps.

Texts become ids as `irl_jax.data.encode.Encoder` makes them. A step of an answer ends at
the token that holds its last visible character, among the tokens of the whole answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

from irl_jax.data.chat import as_messages, strip_eos
from irl_jax.data.encode import Encoder, Masks
from irl_jax.data.judged import RankingRecord, RatingRecord, ScoredRecord, StepsRecord
from irl_jax.data.spans import end_tokens
from irl_jax.types import InputError


@dataclass(frozen=True)
class EncodedRating:
    """A judged completion as token ids.

    Attributes:
        prompt: ids, at least one.
        completion: ids, EOS last.
        score: the judgement.
        weight: weight of the rating.
        source: `FILE:LINE`.
        masks: which ids of the completion are actions, as the only element; None: all.
    """

    prompt: list[int]
    completion: list[int]
    score: float
    weight: float
    source: str
    masks: Masks = None

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the completion."""
        return len(self.prompt), len(self.completion)


@dataclass(frozen=True)
class EncodedRanking:
    """Ranked completions as token ids.

    Attributes:
        prompt: ids, at least one.
        completions: ids of each, EOS last; the best first.
        most: completions of the longest ranking that was encoded with it: K of a batch.
        weight: weight of the ranking.
        source: `FILE:LINE`.
        masks: which ids of each completion are actions; None: all.
    """

    prompt: list[int]
    completions: list[list[int]]
    most: int
    weight: float
    source: str
    masks: Masks = None

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the longest completion."""
        return len(self.prompt), max(map(len, self.completions))


@dataclass(frozen=True)
class EncodedScored:
    """Scored completions as token ids.

    Attributes:
        prompt: ids, at least one.
        completions: ids of each.
        scores: of each.
        ended: whether each ends with EOS, and was not cut.
        source: `FILE:LINE`.
        masks: which ids of each completion are actions; None: all.
    """

    prompt: list[int]
    completions: list[list[int]]
    scores: list[float]
    ended: list[bool]
    source: str
    masks: Masks = None

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the longest completion."""
        return len(self.prompt), max(map(len, self.completions))


@dataclass(frozen=True)
class EncodedSteps:
    """A completion with judged steps as token ids.

    Attributes:
        prompt: ids, at least one.
        completion: ids, EOS last.
        ends: the last token of each judged step, increasing.
        labels: of each judged step, in [0, 1].
        weight: weight of each step.
        source: `FILE:LINE`.
        masks: which ids of the completion are actions, as the only element; None: all.
    """

    prompt: list[int]
    completion: list[int]
    ends: list[int]
    labels: list[float]
    weight: float
    source: str
    masks: Masks = None

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the completion."""
        return len(self.prompt), len(self.completion)


def encode_ratings(encoder: Encoder, records: Iterable[RatingRecord]) -> list[EncodedRating]:
    """Ratings as token ids, in order, dropped ones left out.

    Args:
        encoder: makes ids of texts.
        records: the ratings.

    Raises:
        InputError: as `Encoder.preferences`.
    """
    return [
        EncodedRating(prompt, completion, r.score, r.weight, r.source, masks)
        for r, prompt, (completion,), masks in encoder.rows(records, lambda r: [r.completion])
    ]


def encode_rankings(
    encoder: Encoder,
    records: Iterable[RankingRecord],
    *,
    ties: Literal["error", "drop", "keep"] = "error",
) -> list[EncodedRanking]:
    """Rankings as token ids, in order, dropped ones left out.

    Args:
        encoder: makes ids of texts.
        records: the rankings.
        ties: what becomes of a ranking of which two completions are the same tokens.

    Raises:
        InputError: as `Encoder.preferences`; there are such two, and ties is "error".
    """
    kept = []
    for r, prompt, completions, masks in encoder.rows(records, lambda r: r.completions):
        if ties != "keep" and len(set(map(tuple, completions))) < len(completions):
            if ties == "drop":
                continue
            raise InputError(
                f"{r.source}: two responses are the same tokens, rendered and cut to the limits; "
                "remove one, raise max_completion, or set ties to drop"
            )
        kept.append((r, prompt, completions, masks))
    most = max((len(completions) for _, _, completions, _ in kept), default=0)
    return [
        EncodedRanking(prompt, completions, most, r.weight, r.source, masks)
        for r, prompt, completions, masks in kept
    ]


def encode_scored(encoder: Encoder, records: Iterable[ScoredRecord]) -> list[EncodedScored]:
    """Scored completions as token ids, in order, dropped ones left out.

    Args:
        encoder: makes ids of texts.
        records: with as many completions each, as `read_scored` yields them.

    Raises:
        InputError: as `Encoder.preferences`.
    """
    eos = encoder.tokenizer.eos_id
    return [
        EncodedScored(
            prompt, completions, r.scores, [ids[-1] == eos for ids in completions], r.source, masks
        )
        for r, prompt, completions, masks in encoder.rows(records, lambda r: r.completions)
    ]


def encode_steps(encoder: Encoder, records: Iterable[StepsRecord]) -> list[EncodedSteps]:
    """Answers with labelled steps as token ids, in order.

    Dropped ones are left out, and those of which a cut leaves no judged step.

    Args:
        encoder: makes ids of texts.
        records: the answers.

    Raises:
        InputError: as `Encoder.preferences`; two steps end in one token, or the tokens do
            not say what the steps say.
    """
    tokenizer = encoder.tokenizer
    decode = partial(tokenizer.decode, skip_special=False)
    found = []
    for r, prompt, (ids,), masks in encoder.rows(records, lambda r: [r.completion]):
        (message,) = as_messages(r.completion, "assistant")
        text = strip_eos(message["content"], tokenizer.eos_token)
        ends = end_tokens(decode, ids, text, [min(end, len(text)) for end in r.ends])
        if len(ends) < len(r.ends) and ids[-1] == tokenizer.eos_id:
            raise InputError(
                f"{r.source}: the tokens of the answer do not say step {len(ends) + 1} as it is "
                "written; take characters out of it that the tokenizer or the template changes"
            )
        for i, (end, following) in enumerate(pairwise(ends), start=1):
            if end == following:
                raise InputError(
                    f"{r.source}: steps {i} and {i + 1} end in one token; join them, or set "
                    "step_separator to what stands between steps"
                )
        judged = [
            (end, label) for end, label in zip(ends, r.labels, strict=False) if label is not None
        ]
        if judged:
            places, labels = (list(column) for column in zip(*judged, strict=True))
            found.append(EncodedSteps(prompt, ids, places, labels, r.weight, r.source, masks))
    return found
