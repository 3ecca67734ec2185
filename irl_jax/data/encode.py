"""Records to token ids: chat template, EOS, length limits.

A prompt has the same tokens before every completion and before a sampled one: those that
it has alone. A completion continues it: prompt and completion are together the tokens of
the whole text, as the template renders it, and no model's space (a dummy prefix) comes
between them. Where a token of the whole would cross the border (only where the text does
not break there, as in a word begun by the prompt), the prompt keeps its own tokens and the
rest is encoded as a continuation. EOS ends every completion that was not cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from irl_jax.data.chat import Text, render_chat, split_chat
from irl_jax.data.jsonl import DemonstrationRecord, GroupRecord, PreferenceRecord, PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError

Ties = Literal["error", "drop", "keep"]  # what becomes of a pair whose sides are equal


@dataclass(frozen=True)
class EncodedPreference:
    """A pair as token ids.

    Attributes:
        prompt: ids, at least one.
        chosen: ids, EOS last.
        rejected: ids, EOS last.
        margin: by how much chosen was rated above rejected.
        weight: weight of the pair.
        source: `FILE:LINE`.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    margin: float
    weight: float
    source: str

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the longer side."""
        return len(self.prompt), max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class EncodedGroup:
    """K completions of a prompt as token ids.

    Attributes:
        prompt: ids, at least one.
        completions: ids of each, EOS last.
        source: `FILE:LINE`.
    """

    prompt: list[int]
    completions: list[list[int]]
    source: str

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompt and of the longest completion."""
        return len(self.prompt), max(map(len, self.completions))


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids, with the record it came from.

    Attributes:
        prompt: ids, at least one.
        record: the record, whose fields a verifier needs.
    """

    prompt: list[int]
    record: PromptRecord

    @property
    def source(self) -> str:
        """`FILE:LINE`."""
        return self.record.source

    @property
    def lengths(self) -> tuple[int]:
        """Tokens of the prompt."""
        return (len(self.prompt),)


@dataclass(frozen=True)
class EncodedDemonstration:
    """A demonstration as token ids.

    Attributes:
        prompt: ids, at least one.
        completion: ids, EOS last.
        source: `FILE:LINE`.
    """

    prompt: list[int]
    completion: list[int]
    source: str


@dataclass(frozen=True)
class Encoder:
    """How texts become token ids.

    Attributes:
        tokenizer: text to ids.
        max_prompt: tokens of a prompt, at most.
        max_completion: tokens of a completion, EOS included, at most.
        template: chat template. With one, a string is one message of a
            conversation; without one (None), strings are taken as they are and
            messages are refused.
        add_bos: begin prompts with BOS. A chat template writes its own.
        overlong: what becomes of a record over a limit: "error"; "drop" it;
            "truncate" it, keeping the last tokens of a prompt and the first of
            a completion (which then has no EOS).
    """

    tokenizer: Tokenizer
    max_prompt: int
    max_completion: int
    template: str | None = None
    add_bos: bool = False
    overlong: Literal["error", "drop", "truncate"] = "error"

    def __post_init__(self) -> None:
        for name in ("max_prompt", "max_completion"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.overlong not in ("error", "drop", "truncate"):
            raise InputError(f"overlong: expected error, drop or truncate, got {self.overlong!r}")

    def preferences(
        self, records: Iterable[PreferenceRecord], *, ties: Ties = "error"
    ) -> list[EncodedPreference]:
        """Pairs as token ids, in order, dropped ones left out.

        Args:
            records: the pairs.
            ties: as in `untied`.

        Raises:
            InputError: a record is too long, its prompt is empty, it is messages and there
                is no template, or its sides are equal once rendered and cut.
        """
        records = list(records)
        texts = []
        for record in records:
            prompt, chosen = self._pair(record.prompt, record.chosen, record.source)
            _, rejected = self._pair(record.prompt, record.rejected, record.source)
            texts += [prompt, chosen, rejected]
        pairs = (
            EncodedPreference(prompt, chosen, rejected, r.margin, r.weight, r.source)
            for r, (prompt, chosen, rejected) in self._encode(records, texts, 3)
        )
        return untied(pairs, ties)

    def demonstrations(self, records: Iterable[DemonstrationRecord]) -> list[EncodedDemonstration]:
        """Demonstrations as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`.
        """
        records = list(records)
        texts = [t for r in records for t in self._pair(r.prompt, r.completion, r.source)]
        return [
            EncodedDemonstration(prompt, completion, record.source)
            for record, (prompt, completion) in self._encode(records, texts, 2)
        ]

    def groups(self, records: Iterable[GroupRecord]) -> list[EncodedGroup]:
        """Prompts with K completions each as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`; or the records differ in K.
        """
        records = list(records)
        k = len(records[0].completions) if records else 0
        texts: list[str] = []
        for record in records:
            if len(record.completions) != k:
                raise InputError(
                    f"{record.source}: {len(record.completions)} completions, others have {k}; "
                    "give each prompt as many"
                )
            sides = [self._pair(record.prompt, c, record.source) for c in record.completions]
            texts += [sides[0][0], *(completion for _, completion in sides)]
        return [
            EncodedGroup(prompt, completions, record.source)
            for record, (prompt, *completions) in self._encode(records, texts, 1 + k)
        ]

    def prompts(self, records: Iterable[PromptRecord]) -> list[EncodedPrompt]:
        """Prompts as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`.
        """
        records = list(records)
        texts = [self._prompt(record.prompt, record.source) for record in records]
        return [
            EncodedPrompt(prompt, record) for record, (prompt,) in self._encode(records, texts, 1)
        ]

    def _prompt(self, prompt: Text, source: str) -> str:
        if self.template is None:
            return _plain(prompt, source)
        tokens = {
            "bos_token": self.tokenizer.bos_token or "",
            "eos_token": self.tokenizer.eos_token,
        }
        try:
            return render_chat(self.template, prompt, add_generation_prompt=True, **tokens)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    def _pair(self, prompt: Text, completion: Text, source: str) -> tuple[str, str]:
        if self.template is None:
            return _plain(prompt, source), _plain(completion, source)
        tokens = {
            "bos_token": self.tokenizer.bos_token or "",
            "eos_token": self.tokenizer.eos_token,
        }
        try:
            return split_chat(self.template, prompt, completion, **tokens)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    def _encode(self, records: Sequence, texts: list[str], columns: int) -> Iterator[tuple]:
        """Yields (record, ids of its prompt and completions) of what is kept."""
        bos = self.tokenizer.encode("", add_bos=self.add_bos)
        eos = self.tokenizer.eos_id
        for i, record in enumerate(records):
            head, *tails = texts[columns * i : columns * (i + 1)]
            pairs = self.tokenizer.encode_pieces([[head, tail] for tail in tails] or [[head]])
            prompt, rest = pairs[0][0], [pair[1] for pair in pairs if tails]
            row = [bos + prompt, *([*completion, eos] for completion in rest)]
            if not row[0]:
                raise InputError(
                    f"{record.source}: the prompt has no tokens; write one, or encode with add_bos"
                )
            if self._fits(row, record.source):
                cut = [completion[: self.max_completion] for completion in row[1:]]
                yield record, (row[0][-self.max_prompt :], *cut)

    def _fits(self, row: list[list[int]], source: str) -> bool:
        """Whether a record stays, cut to the limits if it must be."""
        if self.overlong == "truncate":
            return True
        for i, part in enumerate(row):
            name, limit = ("completion", self.max_completion) if i else ("prompt", self.max_prompt)
            if len(part) > limit:
                if self.overlong == "drop":
                    return False
                raise InputError(
                    f"{source}: the {name} has {len(part)} tokens, over max_{name} {limit}; "
                    "raise the limit, or set overlong to drop or truncate"
                )
        return True


def untied(pairs: Iterable[EncodedPreference], ties: Ties) -> list[EncodedPreference]:
    """Pairs whose sides differ as the model sees them.

    Args:
        pairs: sides may differ in what a template takes away, or after a cut.
        ties: what becomes of a pair whose sides are the same tokens.

    Raises:
        InputError: there is such a pair, and ties is "error".
    """
    found = []
    for pair in pairs:
        if pair.chosen != pair.rejected or ties == "keep":
            found.append(pair)
        elif ties == "error":
            raise InputError(
                f"{pair.source}: `chosen` and `rejected` are the same tokens, rendered and cut to "
                "the limits; remove the line, raise max_completion, or set ties to drop"
            )
    return found


def _plain(text: Text, source: str) -> str:
    if isinstance(text, str):
        return text
    raise InputError(
        f"{source}: messages need a chat template; pass the tokenizer's, or "
        "irl_jax.data.chat.DIALOGUE_TEMPLATE"
    )
