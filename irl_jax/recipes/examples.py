"""A file of examples of any kind: token ids, split by prompt, and the shapes of their batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irl_jax.data.batches import Row
from irl_jax.data.builders import HELD_OUT, TRAIN, Side, prepare
from irl_jax.data.chat import DIALOGUE_TEMPLATE, Text
from irl_jax.data.encode import EncodedPrompt, Encoder, untied
from irl_jax.data.fields import number
from irl_jax.data.identity import Identity
from irl_jax.data.jsonl import PreferenceRecord, PromptRecord
from irl_jax.data.kinds import Kind, guess
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.files import writing
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import InputError

MULTIPLE = 8  # tokens; lengths of batches are rounded up to it
LONGEST = 512  # tokens of a prompt and of a completion, where no limit is given
Shape = tuple[int, ...]  # tokens of prompts, tokens of completions; or of both together


@dataclass(frozen=True)
class FileConfig:
    """Where examples come from."""

    path: Path | None = None  # JSONL (.gz) or Parquet, file or directory, of what is learned from
    held_out: float = 0.1  # share of the prompts that is kept from training, to measure on


@dataclass(frozen=True)
class DataConfig(FileConfig):
    """Where examples come from and how they become token ids."""

    ties: Literal["error", "drop"] = "error"  # what becomes of a line whose sides are equal
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
            raise InputError("data.path: no file of examples; give one, --data.path examples.jsonl")
        return self.path

    def reader(self, kind: Kind) -> dict[str, Any]:
        """Options of a kind's reader.

        Raises:
            InputError: a flag is set that this kind does not have.
        """
        options = {name: getattr(self, name) for name in ("ties", "scores")}
        known = {"pairs": ("ties", "scores"), "rankings": ("ties",)}.get(kind.name, ())
        for name, value in options.items():
            if name not in known and value != "error":
                raise InputError(f"data.{name}: a file of {kind.name} has none; leave it out")
        return {name: options[name] for name in known}


@dataclass(frozen=True)
class Examples:
    """Examples as token ids; all examples of a prompt are on one side.

    Attributes:
        kind: what an example is, and how examples become a batch.
        train: examples to learn from.
        held_out: examples to measure on.
        train_prompts: the different prompts of `train`.
        held_out_prompts: the different prompts of `held_out`, at least 2.
        shapes: of the batches, the largest last; each example fits one.
        left_out: why examples of the file were left out -> how many.
    """

    kind: Kind
    train: list[Any]
    held_out: list[Any]
    train_prompts: list[EncodedPrompt]
    held_out_prompts: list[EncodedPrompt]
    shapes: list[Shape]
    left_out: dict[str, int]


def check_kind(config: DataConfig, kind: Kind, reader: str) -> None:
    """Checks by its first line that a file is of a kind; what is of none is left to the reader.

    Args:
        config: of the file.
        kind: that is asked for.
        reader: what asks for it, such as `--loss simpo`.

    Raises:
        InputError: the file is of another kind.
    """
    try:
        found = guess(config.file)
    except InputError:
        return
    same = found.name == kind.name or (found.name, kind.name) == ("scored", "rankings")
    if not same and kind.name != "prompts":
        raise InputError(
            f"{config.path}: holds {found.name}, but {reader} learns from {kind.name}, with lines "
            f"of {kind.fields}; give such a file, or choose a loss of {found.name}"
        )


def read_file(
    config: DataConfig, kind: Kind, margins: Mapping[str, float] | None = None, **options: Any
) -> tuple[list[Any], int]:
    """Reads every line, before any work is done.

    Args:
        config: the file, and what becomes of ties.
        kind: of its examples.
        margins: of pairs, flag -> factor of the file's margins.
        **options: of the kind's reader, beside those of the configuration.

    Returns:
        The records, and the number of pairs that were dropped because their sides are equal.

    Raises:
        InputError: a line that cannot be read, equal sides that are not to be dropped,
            weights that are all 0, margins that are wanted but all 0, or too large for f32.
    """
    options |= config.reader(kind)
    if kind.name == "pairs" and config.ties == "drop":
        options["ties"] = "keep"  # to count them
    found = list(kind.read(config.file, **options))
    if not any(getattr(record, "weight", 1) > 0 for record in found):
        raise InputError(f"{config.path}: every line has `weight` 0; give some of them more")
    if kind.name != "pairs":
        return found, 0
    check_margins(config, found, margins or {})
    records = [record for record in found if record.chosen != record.rejected]
    return records, len(found) - len(records)


def check_margins(
    config: DataConfig, records: Sequence[PreferenceRecord], margins: Mapping[str, float]
) -> None:
    """Raises `InputError` for margins that are wanted but all 0, or too large for f32."""
    widest = max(records, key=lambda record: abs(record.margin))
    for name, factor in margins.items():
        if factor and not widest.margin:
            raise InputError(
                f"{name}: {factor}, but every pair of {config.path} has margin 0; give `margin` or "
                "scores in the file, or leave the flag away"
            )
        number(factor * abs(widest.margin), f"{name} x margin", widest.source)


def template_of(chat: str, tokenizer: Tokenizer) -> str | None:
    """The chat template that `DataConfig.chat` names."""
    return DIALOGUE_TEMPLATE if chat == "dialogue" else tokenizer.chat_template


def read_records(
    config: DataConfig,
    kind: Kind,
    tokenizer: Tokenizer,
    cache: Path,
    *,
    seed: int,
    records: Sequence[Any] | None = None,
    sha256: str | None = None,
    **options: Any,
) -> tuple[Sequence[Any], Sequence[Any]]:
    """The examples of a file, (train, held out), prepared once in a cache.

    Prompts that the model sees as one text are on one side.

    Args:
        config: the file.
        kind: of its examples.
        tokenizer: of the model.
        cache: directory for prepared datasets.
        seed: of the split.
        records: of `read_file`, where the file was read before.
        sha256: of the file's content, where it is known.
        **options: of the kind's reader, beside those of the configuration.

    Raises:
        InputError: a line that cannot be read, too few prompts on a side.
    """
    with writing(cache):
        return prepare(
            kind,
            config.file,
            cache,
            fraction=config.held_out,
            seed=seed,
            identity=Identity.of(tokenizer, template_of(config.chat, tokenizer)),
            check=partial(check_sides, config),
            records=records,
            sha256=sha256,
            **options | config.reader(kind),
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
        if hasattr(side.examples[0], "weight") and not side.weight:
            raise InputError(
                f"{side.source}: this line and all others of the side {name} have `weight` 0; "
                "give some of them more, or change data.held_out"
            )


def make_encoder(config: DataConfig, model: LanguageModel, first: Any) -> Encoder:
    """What makes token ids of the texts of examples.

    Args:
        config: how they are encoded.
        model: whose tokens and template they are.
        first: record of which the others are alike.

    Raises:
        InputError: limits beyond the model's context, messages without a chat template.
    """
    template = template_of(config.chat, model.tokenizer)
    if template is None and not isinstance(first.prompt, str):
        raise InputError(
            f"{first.source}: holds messages, but the model has no chat template; "
            "give one that has, or --data.chat dialogue"
        )
    max_prompt, max_completion = limits(config, model.config.max_positions)
    return Encoder(
        model.tokenizer,
        max_prompt,
        max_completion,
        template=template,
        add_bos=config.add_bos,
        overlong=config.overlong,
        control=config.control,
    )


def encode(
    config: DataConfig,
    kind: Kind,
    model: LanguageModel,
    train: Sequence[Any],
    held_out: Sequence[Any],
    *,
    equal: int = 0,
) -> Examples:
    """Records as token ids, as the model writes them.

    Args:
        config: how they are encoded.
        kind: of the examples.
        model: whose tokens and template they are.
        train: records to learn from.
        held_out: records to measure on.
        equal: pairs that were dropped before, because their sides are equal.

    Raises:
        InputError: as `make_encoder`; a record over a limit, sides that become equal, fewer
            than two held-out prompts.
    """
    encoder = make_encoder(config, model, train[0])
    tied = {"ties": "keep"} if kind.name == "pairs" else config.reader(kind)
    fitting = [kind.encode(encoder, records, **tied) for records in (train, held_out)]
    sides = fitting
    if kind.name == "pairs":
        sides = [untied(pairs, config.ties) for pairs in fitting]
    learned = {tuple(prompt_ids(item)) for item in sides[0]}
    unseen = [item for item in sides[1] if tuple(prompt_ids(item)) not in learned]
    count = lambda *parts: sum(map(len, parts))
    left_out = {
        "over a limit": count(train, held_out) - count(*fitting),
        "with equal sides": equal + count(*fitting) - count(*sides),
        "held out, but of a prompt that is trained on": count(sides[1]) - count(unseen),
    }
    prompts = [prompts_of(*each) for each in ((train, sides[0]), (held_out, unseen))]
    if not prompts[0] or len(prompts[1]) < 2:
        raise InputError(
            f"{config.path}: {len(prompts[0])} prompts to train on and {len(prompts[1])} held out "
            "are too few (1 and 2 at least); give more data, or change data.held_out"
        )
    lengths = np.array([item.lengths for side in (sides[0], unseen) for item in side])
    most: Shape = (encoder.max_prompt, encoder.max_completion)
    if kind.name in ("demonstrations", "prompts"):
        most = (sum(most),)
    shapes = bucket_shapes(lengths, config.buckets, most)
    return Examples(kind, sides[0], unseen, prompts[0], prompts[1], shapes, left_out)


def limits(config: DataConfig, context: int) -> tuple[int, int]:
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
    """At most `count` shapes, the i-th at the quantile i / count of each length.

    Args:
        lengths: i64[N, 2], tokens of prompts and of completions; i64[N, 1], of both together.
        count: number of shapes; fewer where they coincide.
        most: limits, which no shape exceeds.

    Example:
        >>> bucket_shapes(np.array([[3, 5], [4, 9], [5, 9], [30, 60]]), 2, (64, 62))
        [(8, 16), (32, 62)]
    """
    levels = np.quantile(lengths, np.arange(1, count + 1) / count, axis=0, method="higher")
    rounded = np.minimum(-(-levels // MULTIPLE) * MULTIPLE, most).astype(int)
    return sorted({tuple(map(int, shape)) for shape in rounded})


def prompt_ids(item: Any) -> list[int]:
    """The tokens of the prompt of an encoded example."""
    return item.items[0].prompt if isinstance(item, Row) else item.prompt


def prompts_of(records: Iterable[Any], items: Iterable[Any]) -> list[EncodedPrompt]:
    """The different prompts of encoded examples, in the order of their first ones."""
    encoded = {item.source: prompt_ids(item) for item in items}
    first: dict[tuple[int, ...], EncodedPrompt] = {}
    for record in records:
        prompt = encoded.get(record.source)
        if prompt is not None and tuple(prompt) not in first:
            fields = getattr(record, "fields", {})
            own = PromptRecord(record.prompt, fields, record.source, record.tools)
            first[tuple(prompt)] = EncodedPrompt(prompt, own)
    return list(first.values())


def as_text(prompt: Text) -> str:
    """A prompt to be read by people: a lone message as it is, else each after its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
