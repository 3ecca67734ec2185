"""Process reward models in Hugging Face's layout: a decoder that judges the steps of a solution.

There are three kinds, told by the architecture in config.json:

* `tokens`, an `…ForTokenClassification`: `score.weight` [labels, D] and `score.bias` [labels], at
  the last token of each step. TRL's `PRMTrainer` makes them.
* `marked`, `Qwen2ForProcessRewardModel`: `score.0` and `score.2`, linear maps with a ReLU between
  them, at the token `<extra_0>` behind each step. Its class comes with its files, and is not run.
* `words`, a language model: the probability of one token against another, at a token behind
  each step.

Reference: Zhang et al. 2025, "The Lessons of Developing Process Reward Models in Mathematical
Reasoning", arXiv 2501.07301; Wang et al. 2023, "Math-Shepherd", arXiv 2312.08935.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
from jax.sharding import Mesh

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig, unembedding
from irl_jax.models.families import FAMILIES
from irl_jax.models.huggingface import drop_constants, load_huggingface, open_tensors, read_params
from irl_jax.models.huggingface_config import (
    CAUSAL,
    WHOLE,
    architecture_of,
    config_of,
    model_type,
)
from irl_jax.models.layout import param_shapes
from irl_jax.models.peft_files import is_adapter
from irl_jax.models.reward_files import read_labels
from irl_jax.types import InputError, PyTree

TOKENS, MARKED = "ForTokenClassification", "Qwen2ForProcessRewardModel"
WITHOUT = ("gemma3_text", "olmo2")
"""Families of which transformers has no token classification."""

GOOD = ("label_1", "1", "+", "true", "good", "correct", "right", "positive")
"""Names of a label, in small letters, that say that a step is right."""

Kind = Literal["tokens", "marked", "words"]


@dataclass(frozen=True)
class ProcessRewardFiles:
    """A process reward model as its directory holds it.

    Attributes:
        kind: which of the three it is.
        config: the shape of the decoder.
        params: its parameters.
        head: as `models.heads.init_mlp` gives it, with an output for each label.
        labels: their names.
        cap: of `models.attention.soft_cap`, applied to the scores; None: they have none.
    """

    kind: Kind
    config: DecoderConfig
    params: PyTree
    head: PyTree
    labels: tuple[str, ...]
    cap: float | None = None


def describe_process_reward(directory: Path) -> tuple[Kind, tuple[str, ...]]:
    """The kind of a directory's process reward model, and its labels, before anything is loaded.

    Raises:
        InputError: it is none.
    """
    if is_adapter(directory):
        raise InputError(
            f"{directory}: is an adapter; merge it into its base, a process reward model is read "
            "whole"
        )
    path = directory / "config.json"
    fields = read_object(path, WHOLE)
    config_of(path, fields)
    found, family = architecture_of(fields), fields["model_type"]
    if found == FAMILIES[family].architecture:
        return "words", ("+", "-")
    if found == MARKED and family == "qwen2":
        kind: Kind = "marked"
    elif found == FAMILIES[family].architecture.replace(CAUSAL, TOKENS) and family not in WITHOUT:
        kind = "tokens"
    else:
        why = f"; {family} has no {TOKENS}" if family in WITHOUT else ""
        raise InputError(
            f"{path}: architectures: {json.dumps(fields.get('architectures'))} is no process "
            f"reward model{why}; expected …{TOKENS}, {MARKED} or a language model"
        )
    labels = read_labels(path, fields)
    if len(labels) < 2:
        raise InputError(
            f"{path}: id2label: one label, {labels[0]}, has no probability; expected two or more"
        )
    return kind, labels


def load_process_reward(
    directory: Path, mesh: Mesh, dtype: str, words: Mapping[str, int]
) -> ProcessRewardFiles:
    """Reads a process reward model.

    Args:
        directory: config.json and safetensors, as `load_huggingface` takes them.
        mesh: where the parameters are to lie.
        dtype: of the computation, in which matrices are kept; those of a language model are f32.
        words: label -> token, of a language model: its head is the rows of the unembedding.

    Raises:
        InputError: as `load_huggingface`; it is none; the tensors are of another head.
    """
    kind, labels = describe_process_reward(directory)
    if kind == "words":
        config, params = load_huggingface(directory, mesh)
        ids = jnp.array(list(words.values()))
        kernel = unembedding(config, params)[:, ids]
        head = {"layer_0": {"kernel": kernel, "bias": jnp.zeros(len(ids))}}
        return ProcessRewardFiles(kind, config, params, head, tuple(words), config.logit_softcap)
    path = directory / "config.json"
    config = dataclasses.replace(config_of(path, read_object(path, WHOLE)), tie_embeddings=True)
    names = FAMILIES[model_type(config)].names
    with contextlib.ExitStack() as stack:
        files = drop_constants(open_tensors(directory, stack))
        files.pop(names["unembed/kernel"], None)  # no score depends on it
        heads, shapes = head_of(kind, config.d_model, len(labels))
        check_head(directory, heads, files)
        if "score.bias" not in files and kind == "tokens":
            shapes.pop("score/layer_0/bias")
        shapes = param_shapes(config) | shapes
        params = read_params(directory, files, shapes, {**names, **heads}, mesh, dtype)
    head = params.pop("score")
    head["layer_0"].setdefault("bias", jnp.zeros(len(labels)))
    return ProcessRewardFiles(kind, config, params, head, labels)


def head_of(kind: Kind, width: int, labels: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Parameter path -> tensor name, and -> shape, of a head."""
    sizes = (width, labels) if kind == "tokens" else (width, width, labels)
    tensors = ("score",) if kind == "tokens" else ("score.0", "score.2")
    names: dict[str, str] = {}
    shapes: dict[str, Any] = {}
    for i, tensor in enumerate(tensors):
        at = f"score/layer_{i}"
        names |= {f"{at}/kernel": f"{tensor}.weight", f"{at}/bias": f"{tensor}.bias"}
        shapes |= {f"{at}/kernel": sizes[i : i + 2], f"{at}/bias": sizes[i + 1 : i + 2]}
    return names, shapes


def check_head(directory: Path, names: Mapping[str, str], files: Mapping[str, Any]) -> None:
    """Raises `InputError` if a directory's tensors are of a head that is not known."""
    found = sorted(name for name in files if name.startswith("score"))
    if not set(found) <= set(names.values()) or not found:
        raise InputError(
            f"{directory}: the head has the tensors {', '.join(found) or 'none'}; known is one of "
            f"{', '.join(names.values())}"
        )


def good_label(labels: Sequence[str], label: str | None, place: str | Path) -> int:
    """The number of the label that says that a step is right.

    Args:
        labels: those of a model.
        label: its name; None: the one whose name says so, as in `GOOD`.
        place: the model, named in messages.

    Raises:
        InputError: listing the labels, if there is no such label, or not one such name.

    Example:
        >>> good_label(("LABEL_0", "LABEL_1"), None, "m"), good_label(("Good", "bad"), None, "m")
        (1, 0)
    """
    named = [name for name in labels if name == label or (label is None and name.lower() in GOOD)]
    if len(named) != 1:
        what = "say which one means that a step is right" if label is None else f"no {label!r}"
        raise InputError(
            f"{place}: has the labels {', '.join(labels)}; {what}, --read.label {labels[-1]}"
        )
    return list(labels).index(named[0])
