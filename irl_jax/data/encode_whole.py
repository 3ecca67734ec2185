"""Whole conversations to token ids, as a published reward model reads them.

A reward model of Hugging Face reads a conversation as its chat template renders it, the prompt
and the response together and with what the template writes behind them, and its score is that
of the last token that is not padding. `data.encode.Encoder` ends every response with one EOS,
whatever a template writes there, as a policy is sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from irl_jax.data.chat import Text, as_messages, render_chat, without_eos
from irl_jax.data.encode import EncodedGroup, Encoder
from irl_jax.data.extras import check_shown
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError


@dataclass(frozen=True)
class WholeEncoder:
    """How conversations become the token ids that a reward model reads.

    Attributes:
        tokenizer: text to ids.
        max_tokens: of a conversation, at most.
        template: chat template; a text is one message of a conversation. None: prompt,
            response and EOS, as `Encoder` has them.
        unread: the token that pads: what comes after the last token that is another one
            does not count. None: every token counts.
    """

    tokenizer: Tokenizer
    max_tokens: int
    template: str | None = None
    unread: int | None = None

    def groups(self, records: Iterable[GroupRecord]) -> list[EncodedGroup]:
        """Conversations with K responses each, whose last token is the one that is read.

        Returns:
            In order; `prompt` holds the tokens with which all K conversations begin, and
            `completions` what follows in each, at least one token.

        Raises:
            InputError: a conversation is too long, or nothing of it is read; it is messages
                and there is no template, or the template refuses it.
        """
        records = list(records)
        if self.template is None:
            limit = self.max_tokens
            pairs = Encoder(self.tokenizer, limit, limit).groups(records)
            rows = [[item.prompt + ids for ids in item.completions] for item in pairs]
        else:
            texts = [[self._render(record, c) for c in record.completions] for record in records]
            ids = iter(self.tokenizer.encode_batch([text for row in texts for text in row]))
            rows = [[self._with_bos(next(ids)) for _ in row] for row in texts]
        return [self._group(own, record.source) for own, record in zip(rows, records, strict=True)]

    def _render(self, record: GroupRecord, completion: Text) -> str:
        """The text of a conversation."""
        tokens = self.tokenizer.template_tokens
        try:
            turns = without_eos(as_messages(completion, "assistant"), self.tokenizer.eos_token)
            messages = [*as_messages(record.prompt, "user"), *turns]
            check_shown(self.template, messages, record.tools, tokens)
            return render_chat(
                self.template, messages, add_generation_prompt=False, tokens=tokens,
                tools=record.tools,
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"{record.source}: {error}") from error

    def _with_bos(self, ids: list[int]) -> list[int]:
        """Ids that begin with BOS where no template of the model's own writes what it needs."""
        own = self.template == self.tokenizer.chat_template
        bos = [] if own else self.tokenizer.encode("", add_bos=self.tokenizer.add_bos)
        return ids if ids[: len(bos)] == bos else bos + ids

    def _group(self, rows: list[list[int]], source: str) -> EncodedGroup:
        """Conversations of a prompt, cut behind the token that is read."""
        read = []
        for ids in rows:
            if len(ids) > self.max_tokens:
                raise InputError(
                    f"{source}: the conversation has {len(ids)} tokens, over the model's "
                    f"{self.max_tokens}; leave the line out"
                )
            end = len(ids)
            while end and ids[end - 1] == self.unread:
                end -= 1
            read.append(ids[:end])
        begins = min(common(read), min(map(len, read)) - 1)
        if begins < 1:
            raise InputError(
                f"{source}: a conversation has fewer than 2 tokens that are read; leave it out"
            )
        return EncodedGroup(read[0][:begins], [ids[begins:] for ids in read], source)


def common(rows: Sequence[Sequence[int]]) -> int:
    """With how many equal elements all rows begin.

    Example:
        >>> common([[1, 2, 3], [1, 2], [1, 2, 4]])
        2
    """
    columns = list(zip(*rows, strict=False))
    return next((i for i, each in enumerate(columns) if len(set(each)) > 1), len(columns))
