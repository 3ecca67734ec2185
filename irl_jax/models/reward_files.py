"""Reward models in Hugging Face's layout: a decoder with a linear head, `score`, on one token.

`AutoModelForSequenceClassification` of transformers gives a sequence as many scores as it has
labels, read at its last token that is not padding. A head with one label is a reward model.
It may also be an adapter of PEFT on a language model or a reward model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families import FAMILIES
from irl_jax.models.huggingface import (
    check_params,
    drop_constants,
    open_tensors,
    read_params,
    write_model,
)
from irl_jax.models.huggingface_config import (
    CAUSAL,
    CLASSIFIER,
    WHOLE,
    architecture_of,
    config_of,
    model_type,
    write_config,
)
from irl_jax.models.layout import param_shapes
from irl_jax.models.peft_files import (
    REWARD,
    SCORE,
    is_adapter,
    load_adapter,
    open_adapter,
    read_adapter_config,
)
from irl_jax.models.pretrained import base_path, load_pretrained, merge_adapter
from irl_jax.types import InputError, PyTree

HEAD = {"score/kernel": "score.weight", "score/bias": "score.bias"}
"""Parameter path -> tensor name of the head."""

OWN = "irl_jax"
"""Field of config.json for what is known of a reward model that a run wrote."""

OWN_FILE = "irl_jax.json"
"""The same beside an adapter of PEFT, with its label and the token that pads."""


@dataclass(frozen=True)
class RewardFiles:
    """A reward model as its directory holds it.

    Attributes:
        config: the shape of the decoder; its embedding is tied, since nothing is unembedded.
        params: nested dict of f32 arrays, of numpy where they are read to the host.
        head: {"kernel": f32[D, labels], "bias": f32[labels]}; of one label, as
            `models.heads.init_scalar_head` gives it, {"kernel": f32[D], "bias": f32[]}.
        labels: their names, in the order of the scores.
        pad_token_id: the token that is never the one that is read; None: every one can be.
        own: what a run of ours wrote of it, see `save_reward_model`; empty of others.
    """

    config: DecoderConfig
    params: PyTree
    head: PyTree
    labels: tuple[str, ...]
    pad_token_id: int | None
    own: Mapping[str, Any]

    def scalar_head(self, number: int) -> PyTree:
        """The head of one label, as `models.heads.init_scalar_head` gives it.

        With one label it has the bias that a run of ours trained, which is not in the tensors.
        """
        if len(self.labels) == 1:
            return self.head | {"bias": self.head["bias"] + np.float32(self.own.get("bias", 0.0))}
        return {name: leaf[..., number] for name, leaf in self.head.items()}


def is_model_directory(path: str | Path) -> bool:
    """Whether a directory is a model in Hugging Face's layout, or an adapter of PEFT on one."""
    file = Path(path) / "config.json"
    return is_adapter(path) or (file.is_file() and "architectures" in read_object(file, WHOLE))


def load_reward_model(
    directory: str | Path, mesh: Mesh | None = None, dtype: str = "float32"
) -> RewardFiles:
    """Reads an `…ForSequenceClassification` of one of the families.

    Args:
        directory: holds config.json and safetensors, as `load_huggingface` takes them, with
            the head's tensors `score.weight` [labels, D] and, in some, `score.bias` [labels];
            or an adapter of PEFT with such a head, on a directory or a language model.
        mesh: where the parameters are to lie, as `load_huggingface` takes it.
        dtype: of the computation; with a mesh, matrices are kept in it.

    Raises:
        InputError: as `load_huggingface`; it is a language model; the head is missing, or has
            not one row a label.
    """
    directory = Path(directory)
    if is_adapter(directory):
        return load_adapted_reward(directory, mesh)
    path = directory / "config.json"
    labels, own = describe_reward(directory)
    fields = read_object(path, WHOLE)
    config = dataclasses.replace(config_of(path, fields), tie_embeddings=True)
    names = FAMILIES[model_type(config)].names
    with contextlib.ExitStack() as stack:
        files = drop_constants(open_tensors(directory, stack))
        files.pop(names["unembed/kernel"], None)  # no score depends on it
        shapes = param_shapes(config) | {"score/kernel": (config.d_model, len(labels))}
        if HEAD["score/bias"] in files:
            shapes["score/bias"] = (len(labels),)
        params = read_params(directory, files, shapes, {**names, **HEAD}, mesh, dtype)
    head = {"bias": np.zeros(len(labels), np.float32), **params.pop("score")}
    if len(labels) == 1:
        head = {name: leaf[..., 0] for name, leaf in head.items()}
    pad = read_pad(path, fields, config.vocab_size)
    return RewardFiles(config, params, head, labels, pad, own)


def load_adapted_reward(directory: Path, mesh: Mesh | None) -> RewardFiles:
    """Reads an adapter of PEFT with the head of a reward model, merged into its base.

    Raises:
        InputError: as `load_reward_model`.
    """
    labels, own = describe_reward(directory)
    base = base_path(directory)
    if is_reward_model(base):
        found = load_reward_model(base, mesh)
        config, params, pad = found.config, found.params, found.pad_token_id
    else:
        config, params = load_pretrained(base, mesh)
        config, pad = dataclasses.replace(config, tie_embeddings=True), None
        params.pop("unembed", None)
        if (file := base / "config.json").is_file():
            pad = read_pad(file, read_object(file, WHOLE), config.vocab_size)
    if own:
        pad = read_pad(directory / OWN_FILE, own, config.vocab_size)
    adapter = load_adapter(directory, config)
    assert adapter.head is not None
    if len(adapter.head) != len(labels):
        raise InputError(
            f"{directory}: tensor of the score: {len(adapter.head)} rows for the labels "
            f"{', '.join(labels)}; is it another base?"
        )
    kernel, bias = adapter.head.T, np.zeros(len(labels), np.float32)
    head = {"kernel": kernel, "bias": bias}
    if len(labels) == 1:
        head = {name: leaf[..., 0] for name, leaf in head.items()}
    return RewardFiles(config, merge_adapter(params, adapter), head, labels, pad, own)


def is_reward_model(base: Path) -> bool:
    """Whether a directory's config.json names an `…ForSequenceClassification`."""
    file = base / "config.json"
    found = architecture_of(read_object(file, WHOLE)) if file.is_file() else None
    return found is not None and found.endswith(CLASSIFIER)


def describe_reward(directory: Path) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The labels of a reward model's directory, and what a run of ours wrote of it.

    Raises:
        InputError: it is none.
    """
    if is_adapter(directory):
        return describe_adapter(directory)
    path = directory / "config.json"
    fields = read_object(path, WHOLE)
    config_of(path, fields)
    check_architecture(path, fields)
    own = fields.get(OWN)
    return read_labels(path, fields), own if isinstance(own, dict) else {}


def describe_adapter(directory: Path) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """`describe_reward` of an adapter of PEFT: the labels of its base, or numbered ones.

    Raises:
        InputError: it is a language model's.
    """
    fields, base, path = read_adapter_config(directory), base_path(directory), directory / OWN_FILE
    if fields["task_type"] != REWARD:
        raise fields.error(f"is a LoRA of a language model, no reward model ({REWARD})")
    if path.is_file():
        own = read_object(path, "fetch the whole directory again")
        return (str(own.get("label", "reward")),), own
    if is_reward_model(base):
        return describe_reward(base)[0], {}
    with contextlib.ExitStack() as stack:
        file = open_adapter(directory, stack)
        rows = file.get_slice(SCORE).get_shape()[0] if SCORE in file.keys() else 1  # noqa: SIM118
    return tuple(f"LABEL_{i}" for i in range(rows)), {}


def check_architecture(path: Path, fields: Mapping[str, Any]) -> None:
    """Raises `InputError` unless a config.json is that of a reward model of its family."""
    wanted = FAMILIES[fields["model_type"]].reward_architecture
    found = architecture_of(fields)
    if found is not None and found.endswith(CAUSAL):
        raise InputError(
            f"{path.parent}: is a language model ({found}), no reward model; expected {wanted}"
        )
    if found != wanted:
        raise InputError(
            f"{path}: architectures: expected [{json.dumps(wanted)}], "
            f"found {json.dumps(fields.get('architectures'))}"
        )


def read_labels(path: Path, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the labels; two where config.json does not say, as transformers has it.

    Raises:
        InputError: `id2label` does not number them from 0, or `num_labels` is another number.
    """
    given, count = fields.get("id2label"), fields.get("num_labels")
    if given is None:
        count = 2 if count is None else count
        if type(count) is not int or count < 1:
            raise InputError(f"{path}: num_labels: expected 1 or more, found {json.dumps(count)}")
        return tuple(f"LABEL_{i}" for i in range(count))
    numbered = isinstance(given, dict) and set(given) == {str(i) for i in range(len(given))}
    if not numbered or not given or count not in (None, len(given)):
        raise InputError(
            f"{path}: id2label: expected the names of labels 0, 1, ..., as many as num_labels, "
            f"found {json.dumps(given)}"
        )
    return tuple(str(given[str(i)]) for i in range(len(given)))


def read_pad(path: Path, fields: Mapping[str, Any], rows: int) -> int | None:
    """The `pad_token_id` of a config.json; null is None.

    Raises:
        InputError: it is no id of the embedding.
    """
    pad = fields.get("pad_token_id")
    if pad is not None and (type(pad) is not int or not 0 <= pad < rows):
        raise InputError(
            f"{path}: pad_token_id: expected an id below {rows}, found {json.dumps(pad)}"
        )
    return pad


def pick_label(labels: Sequence[str], label: str | None, place: str | Path) -> int:
    """The number of the label that is the reward.

    Args:
        labels: those of a model.
        label: its name; None will do if there is one label.
        place: the model, named in messages.

    Raises:
        InputError: listing the labels, if there is no such label or a choice is to be made.
    """
    if label is None and len(labels) == 1:
        return 0
    has = f"{place}: has the labels {', '.join(labels)}"
    if label is None:
        raise InputError(f"{has}; say which one is the reward, --read.label {labels[0]}")
    if label not in labels:
        raise InputError(f"{has}, but no {label!r}; correct --read.label")
    return list(labels).index(label)


def read_index(tokens: Sequence[int], pad_token_id: int | None) -> int:
    """The position that transformers reads in a sequence: its last token that is no padding.

    Args:
        tokens: ids, i[S], padded on either side or not at all.
        pad_token_id: what pads; None: the last position is read.

    Returns:
        The position; 0 where every token is padding.

    Example:
        >>> read_index([0, 5, 0, 6, 0], 0), read_index([5, 0], None), read_index([0, 0], 0)
        (3, 1, 0)
    """
    if pad_token_id is None:
        return len(tokens) - 1
    found = np.flatnonzero(np.asarray(tokens) != pad_token_id)
    return int(found[-1]) if len(found) else 0


def save_reward_model(
    directory: str | Path,
    config: DecoderConfig,
    params: PyTree,
    kernel: Any,
    *,
    label: str = "reward",
    dtype: str = "float32",
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
    own: Mapping[str, Any] | None = None,
) -> None:
    """Writes a directory that `AutoModelForSequenceClassification.from_pretrained` loads.

    The directory appears whole or not at all. The tokenizer's files are not written. A head
    of transformers has no bias; one in `own` ("bias") is added to our scores alone.

    Args:
        directory: must not exist, or be empty.
        config: the shape.
        params: nested dict of arrays; a LoRA is to be merged before. An unembedding is left out.
        kernel: f[D], of the head.
        label: name of the score.
        dtype: of the tensors: float32, bfloat16 or float16.
        eos_token_id: for config.json.
        pad_token_id: the token that pads; without one transformers scores single sequences only.
        own: for the field `irl_jax` of config.json, which transformers does not read.

    Raises:
        InputError: as `save_huggingface`.
    """
    tied = dataclasses.replace(config, tie_embeddings=True)
    flat = {path: x for path, x in flatten_dict(params, sep="/").items() if "unembed" not in path}
    check_params(tied, flat)
    if np.shape(kernel) != (config.d_model,):
        raise InputError(f"kernel: expected [{config.d_model}], got {list(np.shape(kernel))}")
    fields = write_config(tied, dtype, eos_token_id)
    fields |= {
        "architectures": [FAMILIES[model_type(tied)].reward_architecture],
        "id2label": {"0": label},
        "label2id": {label: 0},
        "pad_token_id": pad_token_id,
        **({OWN: dict(own)} if own else {}),
    }
    read_pad(Path(directory) / "config.json", fields, config.vocab_size)
    shapes = param_shapes(tied) | {"score/kernel": (config.d_model, 1)}
    names = {**FAMILIES[model_type(config)].names, **HEAD}
    flat["score/kernel"] = np.asarray(kernel)[:, None]
    write_model(Path(directory), {"config.json": fields}, shapes, names, flat, dtype)
