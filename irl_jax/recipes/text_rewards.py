"""Rewards that read texts: a user's function of prompts and completions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord
from irl_jax.models.mesh import fetch
from irl_jax.models.sharding import BATCH
from irl_jax.rollout.session import Session
from irl_jax.types import Group, InputError, LoopContext


@dataclass
class PromptReader:
    """Finds the prompts of sampled completions again, and decodes both.

    Attributes:
        session: of whose model the completions are.
        items: every prompt that may be answered.
        nothing: stands for the prompt of a row that fills a batch.
    """

    session: Session
    items: Sequence[EncodedPrompt]
    nothing: PromptRecord = field(default_factory=lambda: PromptRecord("", {}, ""))
    _last: tuple[Any, Any] = field(default=(None, None), init=False)

    def __post_init__(self) -> None:
        self._record = {tuple(item.prompt): item.record for item in self.items}

    def read(self, group: Group) -> tuple[list[PromptRecord], list[list[str]]]:
        """The B prompts of a group and the texts of their K completions each."""
        if self._last[0] is not group.action:
            prompts, shown = fetch((group.context.tokens, group.context.mask))
            records = [
                self._record.get(tuple(ids[mask].tolist()), self.nothing)
                for ids, mask in zip(prompts, shown, strict=True)
            ]
            self._last = (group.action, (records, self.session.texts(group)))
        return self._last[1]

    def place(self, rows: Any) -> Array:
        """Numbers that every process knows, f32[B, K], lying as the batch does."""
        sharding = NamedSharding(self.session.mesh, BATCH)
        return jax.device_put(np.asarray(rows, np.float32), sharding)


@dataclass
class TextReward:
    """A reward of completions by a function of texts, written as TRL's reward functions are.

    `function(prompts, completions, **columns)` gets a prompt and a text for each of the B · K
    completions and returns as many numbers. `columns` are the other fields of the prompts'
    lines, a list each, None where a line has no such field; a function without `**columns` gets
    those that it names.

    Attributes:
        name: of the function, for errors.
        function: the function.
        reader: of prompts and completions.
    """

    name: str
    function: Callable[..., Sequence[float]]
    reader: PromptReader

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.function).parameters
        names = sorted({name for item in self.reader.items for name in item.record.fields})
        everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._columns = [name for name in names if everything or name in parameters]
        try:
            given: dict[str, Any] = {name: [] for name in self._columns}
            inspect.signature(self.function).bind(prompts=[], completions=[], **given)
        except TypeError as error:
            raise InputError(
                f"reward: {self.name}: {error}; write it as {self.name.rpartition(':')[2]}"
                "(prompts, completions, **columns); the lines of the prompts have the columns "
                f"{', '.join(names) or 'none'}"
            ) from error

    def reward(self, group: Group, context: LoopContext) -> Array:
        """The reward for `train.online.train_online`, see `values`."""
        del context
        return self.values(group)

    def values(self, group: Group) -> Array:
        """The rewards of a group's completions, f32[B, K]; 0 in a row that fills the batch.

        Raises:
            InputError: the function returns something else than a number for each completion.
        """
        records, texts = self.reader.read(group)
        asked = [i for i, record in enumerate(records) if record is not self.reader.nothing]
        each = [records[i] for i in asked for _ in texts[i]]
        columns = {name: [record.fields.get(name) for record in each] for name in self._columns}
        completions = [text for i in asked for text in texts[i]]
        given = self.function(
            prompts=[record.prompt for record in each], completions=completions, **columns
        )
        try:
            numbers = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"reward: {self.name} returned {type(given).__name__} that are not all numbers; "
                "return a list of a number for each completion"
            ) from error
        if numbers.shape != (len(completions),):
            raise InputError(
                f"reward: {self.name} returned numbers of shape {numbers.shape} for "
                f"{len(completions)} completions; return a list of a number for each"
            )
        rows = np.zeros((len(texts), len(texts[0])), np.float32)
        rows[asked] = numbers.reshape(len(asked), -1)
        return self.reader.place(rows)

    def measure(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """The rewards, f64[B, K], for `Session.respond`."""
        del texts
        return {"reward": fetch(self.values(group)).astype(np.float64)}
