"""A language model on a mesh: prompts in; completions, log-probs, texts and features out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_jax.data.batches import collate_prompts
from irl_jax.data.encode import EncodedPrompt, Encoder
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.files import read_arrays, write_arrays
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.features import completion_features
from irl_jax.models.logprob import completion_logp
from irl_jax.models.mesh import fetch, global_batch, parameter_shardings, put
from irl_jax.models.sharding import RULES
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import LogitsProcessor
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import Advance, Group, InputError, Prompt, PyTree

Item = TypeVar("Item")
# a group and its texts [B][K] -> name -> [B, K, ...]
Measure = Callable[[Group, list[list[str]]], Mapping[str, Any]]
SAMPLED = ("action", "mask", "terminated", "logp")  # of a group
MULTIPLE = 8  # tokens; the width of prompts is rounded up to it


@dataclass(frozen=True)
class LanguageModel:
    """A decoder and its tokenizer.

    Attributes:
        config: shape of the decoder.
        params: nested dict of f32.
        tokenizer: text to ids.
        other_eos_ids: tokens beside the tokenizer's EOS at which the model stops.
    """

    config: DecoderConfig
    params: PyTree
    tokenizer: Tokenizer
    other_eos_ids: tuple[int, ...] = ()

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end what the model writes, the tokenizer's EOS first.

        A completion in data ends with the tokenizer's EOS alone.
        """
        return tuple(dict.fromkeys((self.tokenizer.eos_id, *self.other_eos_ids)))

    def encoder(
        self,
        *,
        max_prompt: int,
        max_completion: int,
        overlong: Literal["error", "drop", "truncate"] = "error",
    ) -> Encoder:
        """How this model's prompts and completions become ids."""
        return Encoder(
            self.tokenizer,
            max_prompt=max_prompt,
            max_completion=max_completion,
            template=self.tokenizer.chat_template,
            overlong=overlong,
        )


@dataclass(frozen=True)
class Completions:
    """K completions of each of P prompts.

    Attributes:
        text: [P][K].
        action: i32[P, K, T], right-padded.
        mask: bool[P, K, T].
        terminated: bool[P, K], whether the completion ended with EOS.
        logp: f32[P, K, T], log-probs under the policy that was sampled (nats).
        ref_logp: f32[P, K, T], log-probs under the reference (nats); NaN if there was none.
        values: name -> [P, K, ...], what was measured of each completion.
    """

    text: list[list[str]]
    action: np.ndarray
    mask: np.ndarray
    terminated: np.ndarray
    logp: np.ndarray
    ref_logp: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def length(self) -> float:
        """Mean number of tokens of a completion."""
        return float(self.mask.sum(-1).mean())

    def part(self, prompts: slice) -> Completions:
        """The completions of some of the prompts."""
        own = {name: value[prompts] for name, value in vars(self).items() if name != "values"}
        return Completions(**own, values={name: x[prompts] for name, x in self.values.items()})

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all; each value is an array of its own name.

        Raises:
            InputError: it cannot be written.
        """
        own = {name: value for name, value in vars(self).items() if name != "values"}
        write_arrays(path, {**self.values, **own, "text": np.array(self.text)})

    @classmethod
    def load(cls, path: Path) -> Completions:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is damaged, or an older version wrote it.
        """
        values = read_arrays(path)
        names = [each.name for each in fields(cls) if each.name != "values"]
        if missing := sorted(set(names) - set(values)):
            raise InputError(
                f"{path}: has no {', '.join(missing)}; remove it, and the same command makes it "
                "again"
            )
        own: dict[str, Any] = {name: values.pop(name) for name in names}
        return cls(**{**own, "text": own["text"].tolist()}, values=values)


@dataclass(frozen=True)
class Session:
    """A language model on a mesh; made by `create`.

    Attributes:
        model: its parameters lie on the mesh; they are the reference policy.
        mesh: the devices.
        prompt_width: tokens to which prompts are padded.
        max_new_tokens: tokens of a completion, at most.
        sampling: how completions are drawn.
    """

    model: LanguageModel
    mesh: Mesh
    prompt_width: int
    max_new_tokens: int
    sampling: Sampling

    @classmethod
    def create(
        cls,
        model: LanguageModel,
        mesh: Mesh,
        *,
        prompt_width: int,
        max_new_tokens: int,
        sampling: Sampling,
    ) -> Session:
        """Places the parameters of a model on the mesh; see the attributes."""
        params = put(model.params, parameter_shardings(mesh, model.params, RULES))
        return cls(replace(model, params=params), mesh, prompt_width, max_new_tokens, sampling)

    def collate(self, items: Sequence[EncodedPrompt | None]) -> Prompt:
        """A batch of prompts, all batches of one width; None fills a row."""
        return collate_prompts(items, (self.prompt_width,), pad_id=self.model.tokenizer.pad_id)

    def sample(
        self,
        params: PyTree,
        prompts: Prompt,
        key: Array,
        completions: int,
        *,
        numbers: np.ndarray | None = None,
        temperature: float | None = None,
        guides: tuple[LogitsProcessor, ...] = (),
    ) -> Group:
        """Completions of a batch of prompts.

        Args:
            params: of the decoder.
            prompts: this process's rows of a batch.
            key: typed PRNG key.
            completions: K, of each prompt.
            numbers: i32 of this process's rows, see `generate`; None: the batch draws as one.
            temperature: in place of that of `sampling`.
            guides: see `generate`.
        """
        sampling = self.sampling
        if temperature is not None:
            sampling = replace(sampling, temperature=temperature)
        with jax.set_mesh(self.mesh):
            return generate(
                self.model.config,
                params,
                global_batch(self.mesh, prompts),
                put(key, NamedSharding(self.mesh, P())),
                numbers=None if numbers is None else global_batch(self.mesh, numbers),
                completions=completions,
                max_new_tokens=self.max_new_tokens,
                sampling=sampling,
                eos_ids=self.model.eos_ids,
                guides=guides,
            )

    def logp(self, params: PyTree, batch: Any, temperature: float | None = None) -> Array:
        """Log-probs of a batch's completions under a decoder, f32[B, K, T] (nats).

        Args:
            params: of the decoder.
            batch: a `Group`, a `Preference` or another that has `context` and `action`.
            temperature: divides the logits; None: that of `sampling`.
        """
        if temperature is None:
            temperature = self.sampling.temperature
        with jax.set_mesh(self.mesh):
            context, action = global_batch(self.mesh, (batch.context, batch.action))
            return _logp(self.model.config, params, context, action, temperature)

    def texts(self, group: Group) -> list[list[str]]:
        """The completions as text, [B][K]."""
        return self._decode(*fetch((group.action, group.mask)))

    def _decode(self, action: np.ndarray, mask: np.ndarray) -> list[list[str]]:
        decode = self.model.tokenizer.decode
        return [
            [decode(a[m].tolist()) for a, m in zip(*row, strict=True)]
            for row in zip(action, mask, strict=True)
        ]

    def embed(self, group: Group, layers: int) -> Array:
        """Features of completions under the reference, f32[B, K, D].

        Args:
            group: of `sample`.
            layers: see `completion_features`.
        """
        model = self.model
        with jax.set_mesh(self.mesh):
            return completion_features(
                model.config, model.params, group.context, group.action, group.mask, layers=layers
            )

    def respond(
        self,
        params: PyTree,
        prompts: Sequence[EncodedPrompt],
        key: Array,
        *,
        completions: int,
        batch_size: int,
        advance: Advance,
        measure: Measure | None = None,
        reference: bool = True,
    ) -> Completions:
        """Samples and measures completions of prompts.

        Args:
            params: of the decoder that is sampled.
            prompts: P prompts.
            key: typed PRNG key; each prompt draws by its own part of it, whatever its batch.
            completions: K, of each prompt.
            batch_size: prompts at a time.
            advance: told the number of prompts done.
            measure: gives what else is to be known of each completion.
            reference: whether log-probs under the reference are computed.
        """
        text: list[list[str]] = []
        parts: list[dict[str, np.ndarray]] = []
        for number, (count, rows) in enumerate(chunks(prompts, batch_size)):
            numbers = numbers_of(number, batch_size)
            group = self.sample(params, self.collate(rows), key, completions, numbers=numbers)
            texts = self.texts(group)
            found = dict(measure(group, texts)) if measure else {}
            found |= {name: getattr(group, name) for name in SAMPLED}
            if not reference:
                found["ref_logp"] = np.full(group.logp.shape, np.nan, np.float32)
            elif params is self.model.params:
                found["ref_logp"] = group.logp
            else:
                found["ref_logp"] = self.logp(self.model.params, group)
            parts.append({name: _whole(x)[:count] for name, x in found.items()})
            text += texts[:count]
            advance(len(text), {})
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        own = {name: arrays.pop(name) for name in (*SAMPLED, "ref_logp")}
        return Completions(text, **own, values=arrays)


@partial(jax.jit, static_argnames=("config", "temperature"))
def _logp(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array, temperature: float
) -> Array:
    return completion_logp(config, params, context, action, temperature=temperature)


def _whole(x: Any) -> np.ndarray:
    """All rows of an array; what is no array of devices has them on every process."""
    return fetch(x) if isinstance(x, Array) else np.asarray(x)


def width_of(*sides: Sequence[EncodedPrompt]) -> int:
    """Tokens that hold every prompt, rounded up to a multiple of 8."""
    longest = max(len(item.prompt) for side in sides for item in side)
    return -(-longest // MULTIPLE) * MULTIPLE


def chunks(items: Sequence[Item], size: int) -> list[tuple[int, list[Item | None]]]:
    """This process's rows of each batch of `size` items: (number of items, rows).

    The last batch is filled up with None.
    """
    share = size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    found = []
    for start in range(0, len(items), size):
        rows: list[Item | None] = list(items[start : start + size])
        found.append((len(rows), (rows + [None] * (size - len(rows)))[mine]))
    return found


def numbers_of(chunk: int, size: int) -> np.ndarray:
    """Numbers of the items that are this process's rows of a batch of `chunks`, i32.

    Args:
        chunk: number of the batch.
        size: of the batches.
    """
    share = size // jax.process_count()
    first = chunk * size + jax.process_index() * share
    return np.arange(first, first + share, dtype=np.int32)
