"""Preferences from a file: token ids split by prompt, and the shapes of their batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from irl_jax.data.builders import HELD_OUT, TRAIN, Side, prepare
from irl_jax.data.chat import DIALOGUE_TEMPLATE, Text
from irl_jax.data.encode import EncodedPreference, EncodedPrompt, Encoder, untied
from irl_jax.data.fields import number
from irl_jax.data.identity import Identity
from irl_jax.data.jsonl import PreferenceRecord, PromptRecord, read_preferences
from irl_jax.data.kinds import KINDS
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.files import writing
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import InputError

MULTIPLE = 8  # tokens; lengths of batches are rounded up to it
LONGEST = 512  # tokens of a prompt and of a completion, where no limit is given
Shape = tuple[int, int]  # tokens of prompts, tokens of completions


@dataclass(frozen=True)
class DataConfig:
    """Where preferences come from and how they become token ids."""

    path: Path | None = None  # JSON Lines (.gz if gzipped): prompt, chosen, rejected
    held_out: float = 0.1  # share of the prompts that is kept from training, to measure on
    ties: Literal["error", "drop"] = "error"  # what becomes of a pair whose sides are equal
    scores: Literal["error", "swap"] = "error"  # or of one with score_chosen < score_rejected
    max_prompt: int | None = None  # tokens; None: half the model's context, at most 512
    max_completion: int | None = None  # tokens, EOS included; None: as max_prompt
    overlong: Literal["error", "drop", "truncate"] = "error"  # what becomes of a longer record
    chat: Literal["model", "dialogue"] = "model"  # the model's template, or Human: / Assistant:
    add_bos: bool | None = None  # begin prompts with BOS; None: as the tokenizer says
    control: Literal["parse", "text"] = "parse"  # control tokens in the texts: parse, or letters
    buckets: int = 2  # shapes of batches; each compiles once, more of them pad less

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise InputError(f"data.held_out: expected a share between 0 and 1: {self.held_out}")
        if self.buckets < 1:
            raise InputError(f"data.buckets: expected 1 or more, got {self.buckets}")

    @property
    def file(self) -> Path:
        """The path, which there must be.

        Raises:
            InputError: there is none.
        """
        if self.path is None:
            raise InputError("data.path: no file of preferences; give one, --data.path prefs.jsonl")
        return self.path


@dataclass(frozen=True)
class Pairs:
    """Preferences as token ids; all pairs of a prompt are on one side.

    Attributes:
        train: pairs to learn from.
        held_out: pairs to measure on.
        train_prompts: the different prompts of `train`.
        held_out_prompts: the different prompts of `held_out`, at least 2.
        shapes: of the batches, the largest last; each pair fits one.
        left_out: why pairs of the file were left out -> how many.
    """

    train: list[EncodedPreference]
    held_out: list[EncodedPreference]
    train_prompts: list[EncodedPrompt]
    held_out_prompts: list[EncodedPrompt]
    shapes: list[Shape]
    left_out: dict[str, int]


def read_file(
    config: DataConfig, margins: Mapping[str, float]
) -> tuple[list[PreferenceRecord], int]:
    """Reads every line, before any work is done.

    Args:
        config: the file, and what becomes of ties.
        margins: flag -> factor of the file's margins.

    Returns:
        The pairs, and the number of those that were dropped because their sides are equal.

    Raises:
        InputError: a line that cannot be read, equal sides that are not to be dropped,
            weights that are all 0, margins that are wanted but all 0, or too large for f32.
    """
    ties: Literal["error", "keep"] = "keep" if config.ties == "drop" else "error"
    found = list(read_preferences(config.file, ties=ties, scores=config.scores))
    if not any(record.weight > 0 for record in found):
        raise InputError(f"{config.path}: every pair has `weight` 0; give some of them more")
    widest = max(found, key=lambda record: abs(record.margin))
    for name, factor in margins.items():
        if factor and not widest.margin:
            raise InputError(
                f"{name}: {factor}, but every pair of {config.path} has margin 0; give `margin` or "
                "scores in the file, or leave the flag away"
            )
        number(factor * abs(widest.margin), f"{name} x margin", widest.source)
    records = [record for record in found if record.chosen != record.rejected]
    return records, len(found) - len(records)


def template_of(chat: str, tokenizer: Tokenizer) -> str | None:
    """The chat template that `DataConfig.chat` names."""
    return DIALOGUE_TEMPLATE if chat == "dialogue" else tokenizer.chat_template


def read_records(
    config: DataConfig,
    tokenizer: Tokenizer,
    cache: Path,
    *,
    seed: int,
    records: Sequence[PreferenceRecord] | None = None,
    sha256: str | None = None,
) -> tuple[Sequence[PreferenceRecord], Sequence[PreferenceRecord]]:
    """The preferences of a file, (train, held out), prepared once in a cache.

    Prompts that the model sees as one text are on one side.

    Args:
        config: the file.
        tokenizer: of the model.
        cache: directory for prepared datasets.
        seed: of the split.
        records: of `read_file`, where the file was read before.
        sha256: of the file's content, where it is known.

    Raises:
        InputError: a line that cannot be read, too few prompts on a side.
    """
    with writing(cache):
        return prepare(
            KINDS["pairs"],
            config.file,
            cache,
            fraction=config.held_out,
            seed=seed,
            identity=Identity.of(tokenizer, template_of(config.chat, tokenizer)),
            check=partial(check_sides, config),
            records=records,
            sha256=sha256,
            ties=config.ties,
            scores=config.scores,
        )


def check_sides(config: DataConfig, sides: dict[str, Side]) -> None:
    """Raises `InputError` where a side of the split is of no use."""
    if not sides[TRAIN].records:
        raise InputError(f"{config.path}: no prompt is left to train on; lower data.held_out")
    if not sides[HELD_OUT].records:
        raise InputError(
            f"{config.path}: none of its prompts was drawn as held out; raise data.held_out, or "
            "give more data"
        )
    for name, side in sides.items():
        if not side.weight:
            raise InputError(
                f"{side.source}: this pair and all others of the side {name} have `weight` 0; "
                "give some of them more, or change data.held_out"
            )


def encode(
    config: DataConfig,
    model: LanguageModel,
    train: Sequence[PreferenceRecord],
    held_out: Sequence[PreferenceRecord],
    *,
    equal: int = 0,
) -> Pairs:
    """Records as token ids, as the model writes them.

    Args:
        config: how they are encoded.
        model: whose tokens and template they are.
        train: pairs to learn from.
        held_out: pairs to measure on.
        equal: pairs that were dropped before, because their sides are equal.

    Raises:
        InputError: limits beyond the model's context, a record over a limit, messages
            without a chat template, sides that become equal, fewer than two held-out prompts.
    """
    template = template_of(config.chat, model.tokenizer)
    if template is None and not isinstance(train[0].prompt, str):
        raise InputError(
            f"{train[0].source}: holds messages, but the model has no chat template; "
            "give one that has, or --data.chat dialogue"
        )
    max_prompt, max_completion = limits(config, model.config.max_positions)
    encoder = Encoder(
        model.tokenizer,
        max_prompt,
        max_completion,
        template=template,
        add_bos=config.add_bos,
        overlong=config.overlong,
        control=config.control,
    )
    fitting = [encoder.preferences(records, ties="keep") for records in (train, held_out)]
    sides = [untied(pairs, config.ties) for pairs in fitting]
    learned = {tuple(pair.prompt) for pair in sides[0]}
    unseen = [pair for pair in sides[1] if tuple(pair.prompt) not in learned]
    count = lambda *parts: sum(map(len, parts))
    left_out = {
        "over a limit": count(train, held_out) - count(*fitting),
        "with equal sides": equal + count(*fitting) - count(*sides),
        "held out, but of a prompt that is trained on": count(sides[1]) - count(unseen),
    }
    sides[1] = unseen
    prompts = [
        prompts_of(records, side) for records, side in zip((train, held_out), sides, strict=True)
    ]
    if not prompts[0] or len(prompts[1]) < 2:
        raise InputError(
            f"{config.path}: {len(prompts[0])} prompts to train on and {len(prompts[1])} held out "
            "are too few (1 and 2 at least); give more data, or change data.held_out"
        )
    lengths = np.array([pair.lengths for side in sides for pair in side])
    shapes = bucket_shapes(lengths, config.buckets, (max_prompt, max_completion))
    return Pairs(sides[0], sides[1], prompts[0], prompts[1], shapes, left_out)


def limits(config: DataConfig, context: int) -> Shape:
    """Tokens of a prompt and of a completion, at most.

    Raises:
        InputError: together they exceed the context of the model.
    """
    default = min(context // 2, LONGEST)
    max_prompt = default if config.max_prompt is None else config.max_prompt
    max_completion = default if config.max_completion is None else config.max_completion
    if max_prompt + max_completion > context:
        raise InputError(
            f"data.max_prompt {max_prompt} + data.max_completion {max_completion} exceed the "
            f"model's context of {context} tokens; lower one of them"
        )
    return max_prompt, max_completion


def bucket_shapes(lengths: np.ndarray, count: int, most: Shape) -> list[Shape]:
    """At most `count` shapes, the i-th at the quantile i / count of both lengths.

    Args:
        lengths: i64[N, 2], tokens of prompts and of completions.
        count: number of shapes; fewer where they coincide.
        most: limits, which no shape exceeds.

    Example:
        >>> bucket_shapes(np.array([[3, 5], [4, 9], [5, 9], [30, 60]]), 2, (64, 62))
        [(8, 16), (32, 62)]
    """
    levels = np.quantile(lengths, np.arange(1, count + 1) / count, axis=0, method="higher")
    rounded = np.minimum(-(-levels // MULTIPLE) * MULTIPLE, most).astype(int)
    return sorted({(int(prompt), int(completion)) for prompt, completion in rounded})


def prompts_of(
    records: Iterable[PreferenceRecord], pairs: Iterable[EncodedPreference]
) -> list[EncodedPrompt]:
    """The different prompts of encoded pairs, in the order of their first pairs."""
    encoded = {pair.source: pair.prompt for pair in pairs}
    first: dict[tuple[int, ...], EncodedPrompt] = {}
    for record in records:
        prompt = encoded.get(record.source)
        if prompt is not None and tuple(prompt) not in first:
            record_of_prompt = PromptRecord(record.prompt, {}, record.source, record.tools)
            first[tuple(prompt)] = EncodedPrompt(prompt, record_of_prompt)
    return list(first.values())


def as_text(prompt: Text) -> str:
    """A prompt to be read by people: a lone message as it is, else each after its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
