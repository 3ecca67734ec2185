"""Records to token ids: chat template, EOS, length limits.

A prompt has the same tokens before every completion and before a sampled one: those that
it has alone. A completion continues it: prompt and completion are together the tokens of
the whole text, as the template renders it, and no model's space (a dummy prefix) comes
between them. Where a token of the whole would cross the border (only where the text does
not break there, as in a word begun by the prompt), the prompt keeps its own tokens and the
rest is encoded as a continuation. EOS ends every completion that was not cut; one whose
text ends with EOS already is the same as one without.

A text begins with BOS where the tokenizer says so (`Tokenizer.add_bos`), unless the model's
own chat template renders it, which writes what it needs; never with two.

In a completion of several turns, the assistant's turns are actions, each with the control
token that ends it. Other turns and headers between are tokens outside the mask.

Control tokens that stand in the texts themselves (`<|im_end|>` in what a user wrote) are
parsed, counted and reported; with `control="text"` they are letters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from irl_jax.data.chat import (
    Message,
    Text,
    as_messages,
    render_chat,
    split_chat,
    strip_eos,
    without_eos,
)
from irl_jax.data.extras import check_shown
from irl_jax.data.jsonl import DemonstrationRecord, GroupRecord, PreferenceRecord, PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError

Ties = Literal["error", "drop", "keep"]  # what becomes of a pair whose sides are equal
TOGETHER = 512  # records whose texts are tokenized at a time
Masks = list[list[bool]] | None  # of each completion, true on its actions; None: all are


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
        masks: which ids of chosen and of rejected are actions; None: all.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    margin: float
    weight: float
    source: str
    masks: Masks = None

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
        masks: which ids of each completion are actions; None: all.
    """

    prompt: list[int]
    completions: list[list[int]]
    source: str
    masks: Masks = None

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
        masks: which ids of the completion are actions, as the only element; None: all.
    """

    prompt: list[int]
    completion: list[int]
    source: str
    masks: Masks = None


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
        add_bos: begin prompts with BOS, if they do not; None: as the tokenizer says,
            where the template is not its own.
        overlong: what becomes of a record over a limit: "error"; "drop" it;
            "truncate" it, keeping the last tokens of a prompt and the first of
            a completion (which then has no EOS); a BOS that was added stays.
        control: what becomes of control tokens in the texts: "parse" them and say so, or
            take them as "text".
    """

    tokenizer: Tokenizer
    max_prompt: int
    max_completion: int
    template: str | None = None
    add_bos: bool | None = None
    overlong: Literal["error", "drop", "truncate"] = "error"
    control: Literal["parse", "text"] = "parse"

    def __post_init__(self) -> None:
        for name in ("max_prompt", "max_completion"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.overlong not in ("error", "drop", "truncate"):
            raise InputError(f"overlong: expected error, drop or truncate, got {self.overlong!r}")
        if self.control not in ("parse", "text"):
            raise InputError(f"control: expected parse or text, got {self.control!r}")

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
        pairs = (
            EncodedPreference(prompt, chosen, rejected, r.margin, r.weight, r.source, masks)
            for r, prompt, (chosen, rejected), masks in self.rows(
                records, lambda r: [r.chosen, r.rejected]
            )
        )
        return untied(pairs, ties)

    def demonstrations(self, records: Iterable[DemonstrationRecord]) -> list[EncodedDemonstration]:
        """Demonstrations as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`.
        """
        return [
            EncodedDemonstration(prompt, completion, record.source, masks)
            for record, prompt, (completion,), masks in self.rows(
                records, lambda record: [record.completion]
            )
        ]

    def groups(self, records: Iterable[GroupRecord]) -> list[EncodedGroup]:
        """Prompts with K completions each as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`; or the records differ in K.
        """
        records = list(records)
        k = len(records[0].completions) if records else 0
        for record in records:
            if len(record.completions) != k:
                raise InputError(
                    f"{record.source}: {len(record.completions)} completions, others have {k}; "
                    "give each prompt as many"
                )
        return [
            EncodedGroup(prompt, completions, record.source, masks)
            for record, prompt, completions, masks in self.rows(
                records, lambda record: record.completions
            )
        ]

    def prompts(self, records: Iterable[PromptRecord]) -> list[EncodedPrompt]:
        """Prompts as token ids, in order, dropped ones left out.

        Raises:
            InputError: as `preferences`.
        """
        return [
            EncodedPrompt(prompt, record)
            for record, prompt, _, _ in self.rows(records, lambda record: [])
        ]

    def rows(
        self, records: Iterable[Any], completions: Callable[[Any], Sequence[Text]]
    ) -> Iterator[tuple[Any, list[int], list[list[int]], Masks]]:
        """Yields (record, ids of its prompt, of its completions, masks) of what is kept.

        Args:
            records: with `prompt`, `tools` and `source`.
            completions: those of a record.

        Raises:
            InputError: as `preferences`.
        """
        source, count = "", 0
        remaining = iter(records)
        while some := list(islice(remaining, TOGETHER)):
            rows: list[list[list[str]]] = []
            for record in some:
                texts = completions(record)
                found = sum(map(self._control_tokens, [record.prompt, *texts]))
                source, count = source or (record.source if found else ""), count + found
                rows.append(self._pieces(record, texts))
            ids = iter(
                self.tokenizer.encode_pieces(
                    [pieces for row in rows for pieces in row], quoted=self.control == "text"
                )
            )
            for record, row in zip(some, rows, strict=True):
                kept = self._row(record.source, [next(ids) for _ in row])
                if kept is not None:
                    yield record, *kept
        if count:
            done = "parsed as such" if self.control == "parse" else "taken as text"
            print(
                f"{source}: the first of {count} control tokens inside texts, {done} "
                '(the setting is control, "parse" or "text")',
                file=sys.stderr,
                flush=True,
            )

    def _pieces(self, record: Any, completions: Sequence[Text]) -> list[list[str]]:
        """Texts of a prompt, followed by those of each completion; alone if there is none."""
        tokens = self.tokenizer.template_tokens
        eos = self.tokenizer.eos_token
        quotes = self.tokenizer.backend.quotes
        try:
            if self.template is None:
                sides = [[strip_eos(_plain(text), eos)] for text in completions]
                check_shown(None, [], record.tools, tokens)
                prompt = self._quoted(_plain(record.prompt))
                return [[prompt, *map(self._quoted, side)] for side in sides] or [[prompt]]
            start = [self._quoted_message(m) for m in as_messages(record.prompt, "user")]
            options: dict[str, Any] = {"tokens": tokens, "tools": record.tools}
            if not completions:
                check_shown(self.template, start, **options)
                return [[render_chat(self.template, start, add_generation_prompt=True, **options)]]
            found = []
            for completion in completions:
                turns = without_eos(as_messages(completion, "assistant"), eos)
                turns = [self._quoted_message(turn) for turn in turns]
                check_shown(self.template, [*start, *turns], **options)
                found.append(split_chat(self.template, start, turns, end=quotes.texts, **options))
            return found
        except InputError as error:
            raise InputError(f"{record.source}: {error}") from error

    def _quoted(self, text: str) -> str:
        return self.tokenizer.backend.quotes.quote(text) if self.control == "text" else text

    def _quoted_message(self, message: Message) -> Message:
        content = message.get("content")
        return message | {"content": self._quoted(content)} if isinstance(content, str) else message

    def _control_tokens(self, text: Text) -> int:
        """Control tokens inside a text, without the EOS at its end."""
        texts = [text] if isinstance(text, str) else [m.get("content") for m in text]
        found = self.tokenizer.backend.quotes.texts.finditer
        return sum(
            sum(1 for match in found(strip_eos(each, self.tokenizer.eos_token)) if match.group())
            for each in texts
            if isinstance(each, str)
        )

    def _row(
        self, source: str, row: list[list[list[int]]]
    ) -> tuple[list[int], list[list[int]], Masks] | None:
        """Ids of a prompt and of its completions with their masks; None if dropped."""
        prompt, added = self._with_bos(row[0][0])
        if not prompt:
            raise InputError(
                f"{source}: the prompt has no tokens; write one, or encode with add_bos"
            )
        completions, masks = [], []
        for _, *pieces in row if len(row[0]) > 1 else []:
            ids = [i for piece in pieces for i in piece]
            mask = [n % 2 == 0 for n, piece in enumerate(pieces) for _ in piece]
            completions.append([*ids, self.tokenizer.eos_id])
            masks.append([*mask, True])
        if not self._fits([prompt, *completions], source):
            return None
        if len(prompt) > self.max_prompt:
            head = prompt[:1] if added and self.max_prompt > 1 else []
            prompt = head + prompt[len(prompt) - self.max_prompt + len(head) :]
        completions = [ids[: self.max_completion] for ids in completions]
        masks = [mask[: self.max_completion] for mask in masks]
        return prompt, completions, None if all(map(all, masks)) else masks

    def _with_bos(self, ids: list[int]) -> tuple[list[int], bool]:
        """Ids of a prompt that begins with BOS where it has to, and whether it was added."""
        add = self.add_bos
        if add is None:
            own = self.template is not None and self.template == self.tokenizer.chat_template
            add = self.tokenizer.add_bos and not own
        bos = self.tokenizer.encode("", add_bos=add)
        return (bos + ids, True) if bos and ids[:1] != bos else (ids, False)

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


def _plain(text: Text) -> str:
    if isinstance(text, str):
        return text
    raise InputError(
        "messages need a chat template; pass the tokenizer's, or "
        "irl_jax.data.chat.DIALOGUE_TEMPLATE"
    )
