"""A language model on its mesh: sampling, scoring, embedding and judging responses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from irl_jax.data.batches import collate_prompts
from irl_jax.data.encode import EncodedPrompt
from irl_jax.files import write_atomic
from irl_jax.models.logprob import completion_logp
from irl_jax.models.sharding import RULES
from irl_jax.recipes.embeddings import decoder_features
from irl_jax.recipes.language_model import LanguageModel, MeshConfig
from irl_jax.recipes.launch import read_arrays
from irl_jax.rewards.vader import vader
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import LogitsProcessor
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.progress import Advance
from irl_jax.train.shard import fetch, global_batch, make_mesh, place
from irl_jax.types import Group, Prompt, PyTree


@dataclass(frozen=True)
class Responses:
    """What a policy answered to P prompts, K times each.

    Attributes:
        text: [P][K].
        gold: f64[P, K], gold reward.
        features: f32[P, K, F], features for a reward model.
        action: i32[P, K, T], right-padded.
        mask: bool[P, K, T].
        logp: f32[P, K, T], log-probs under the policy that answered (nats).
        ref_logp: f32[P, K, T], log-probs under the reference (nats).
    """

    text: list[list[str]]
    gold: np.ndarray
    features: np.ndarray
    action: np.ndarray
    mask: np.ndarray
    logp: np.ndarray
    ref_logp: np.ndarray

    def part(self, prompts: slice) -> Responses:
        """The responses to some of the prompts."""
        return Responses(**{name: value[prompts] for name, value in vars(self).items()})

    def save(self, path: Path) -> None:
        """Writes the responses to a file of NumPy arrays, whole or not at all."""
        file = io.BytesIO()
        np.savez(file, **{**vars(self), "text": np.array(self.text)})  # type: ignore[arg-type]
        write_atomic(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> Responses:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is damaged.
        """
        fields = read_arrays(path)
        return cls(**{**fields, "text": fields["text"].tolist()})


class Lab:
    """The language model on its mesh, and what is done with it."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        mesh: MeshConfig,
        sampling: Sampling,
        prompt_width: int,
        max_new_tokens: int,
        feature_layers: int,
    ):
        """Places the parameters; compiles nothing yet.

        Args:
            model: the language model; it is the reference policy.
            mesh: devices along each axis.
            sampling: how responses are drawn.
            prompt_width: columns of a batch of prompts.
            max_new_tokens: tokens of a response, at most.
            feature_layers: layers that the features of responses come from.
        """
        self.model, self.sampling = model, sampling
        self.prompt_width, self.max_new_tokens = prompt_width, max_new_tokens
        self.mesh = make_mesh(mesh.data, mesh.fsdp, mesh.tensor)
        self.reference: PyTree = place(self.mesh, model.params, RULES)
        self.gold = vader()
        self._features = decoder_features(model.config, feature_layers)

        @jax.jit
        def ref_logp(params: PyTree, group: Group) -> Array:
            return completion_logp(
                model.config, params, group.context, group.action, temperature=sampling.temperature
            )

        self.ref_logp = ref_logp

    def rollout(
        self,
        params: PyTree,
        prompts: Prompt,
        key: Array,
        completions: int,
        *,
        temperature: float | None = None,
        guides: tuple[LogitsProcessor, ...] = (),
    ) -> Group:
        """Samples responses; `params` are the decoder's.

        Args:
            params: of the decoder.
            prompts: `Prompt` of B rows.
            key: typed PRNG key.
            completions: of each prompt.
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
                place(self.mesh, key),
                completions=completions,
                max_new_tokens=self.max_new_tokens,
                sampling=sampling,
                eos_ids=self.model.eos_ids,
                guides=guides,
            )

    def embed(self, group: Group) -> Array:
        """Features of responses under the reference, f32[B, K, D]."""
        with jax.set_mesh(self.mesh):
            return self._features(self.reference, group.context, group.action, group.mask)

    def texts(self, group: Group) -> list[list[str]]:
        """The responses as text, [B][K]."""
        action, mask = fetch((group.action, group.mask))
        decode = self.model.tokenizer.decode
        return [
            [decode(a[m].tolist()) for a, m in zip(*row, strict=True)]
            for row in zip(action, mask, strict=True)
        ]

    def judge(self, text: list[list[str]]) -> np.ndarray:
        """Gold reward of responses, f64[B, K]."""
        return np.stack([self.gold(row) for row in text])

    def collate(self, items: Sequence[EncodedPrompt | None]) -> Prompt:
        """A batch of prompts, all of one width."""
        shape = (self.prompt_width,)
        return collate_prompts(items, shape, pad_id=self.model.tokenizer.pad_id)

    def respond(
        self,
        params: PyTree,
        prompts: Sequence[EncodedPrompt],
        key: Array,
        *,
        batch_size: int,
        completions: int,
        advance: Advance,
    ) -> Responses:
        """Samples, scores and embeds K responses to each prompt.

        Args:
            params: parameters of the decoder that answers.
            prompts: P prompts.
            key: typed PRNG key.
            batch_size: prompts at a time.
            completions: K.
            advance: told the number of prompts done.
        """
        size = batch_size
        share = size // jax.process_count()
        mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        parts: list[tuple[Any, ...]] = []
        for start in range(0, len(prompts), size):
            chunk = list(prompts[start : start + size])
            batch = self.collate((chunk + [None] * (size - len(chunk)))[mine])
            group = self.rollout(params, batch, jax.random.fold_in(key, start), completions)
            embedded = self.embed(group)
            with jax.set_mesh(self.mesh):
                own = params is self.reference
                ref_logp = group.logp if own else self.ref_logp(self.reference, group)
            text = self.texts(group)[: len(chunk)]
            arrays = fetch((embedded, group.action, group.mask, group.logp, ref_logp))
            parts.append((text, *(x[: len(chunk)] for x in arrays)))
            advance(start + len(chunk), {})
        text = [row for part in parts for row in part[0]]
        arrays = [np.concatenate(column) for column in list(zip(*parts, strict=True))[1:]]
        return Responses(text, self.judge(text), *arrays)
