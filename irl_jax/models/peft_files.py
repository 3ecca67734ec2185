"""LoRAs in the layout of the library PEFT: adapter_config.json + adapter_model.safetensors.

PEFT keeps a pair of every linear module of every layer, A [r, D_in] and B [D_out, r], each with
its own rank and scale; ours is a stack of all layers with one scale. Ranks are padded with zeros
and scales are moved into B, so that the product is the same. Where several of our kernels are
rows of one module (q, k and v of Phi-3), they share its A and have rows of its B.

Reference: Hu et al. 2021, "LoRA", arXiv 2106.09685; Kalajdzievski 2023, "A Rank Stabilization
Scaling Factor for Fine-Tuning with LoRA", arXiv 2312.03732 (scale = alpha / √rank).

Differs: what changes more than linear modules of the layers (DoRA, biases, ...) is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families import FAMILIES
from irl_jax.models.families.fields import Fields
from irl_jax.models.huggingface import FLOATS, check_dtype, open_file, whole_directory, write_json
from irl_jax.models.huggingface_config import model_type
from irl_jax.models.layout import Slot, check_tensors, param_shapes, slots
from irl_jax.types import InputError, PyTree

ADAPTER, TENSORS = "adapter_config.json", "adapter_model.safetensors"
LANGUAGE, REWARD = "CAUSAL_LM", "SEQ_CLS"
"""PEFT's names of what the adapted model does."""

PREFIX = "base_model.model."
SCORE = f"{PREFIX}score.weight"

DEFAULTS: dict[str, Any] = {
    "alpha_pattern": {},
    "base_model_name_or_path": None,
    "bias": "none",
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_alpha": 8,
    "modules_to_save": None,
    "peft_type": None,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": None,
    "task_type": None,
    "use_dora": False,
    "use_rslora": False,
}
"""Field that is read or checked -> its value where it is absent."""

ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": (LANGUAGE, REWARD, None),
    "bias": ("none",),
    "fan_in_fan_out": (False, None),
    "use_dora": (False, None),
    # others change the base itself
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    "layers_pattern": ("layers", ["layers"], [], "", None),
}
"""Field -> the values that are computed."""

IDLE = frozenset(
    {"auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode"}
    | {"loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version"}
    | {"qalora_group_size"}
)
"""Fields without effect on what an adapter computes, whatever they hold."""


class Adapter(NamedTuple):
    """A LoRA on a decoder.

    Attributes:
        lora: as `models.lora.init_lora` gives it, numpy f32; kernels may differ in rank.
        rank: of the scale.
        alpha: of the scale.
        head: f32[labels, D], the scores of a reward model; None of a language model.
    """

    lora: PyTree
    rank: int
    alpha: float
    head: np.ndarray | None = None

    @property
    def scale(self) -> float:
        """Factor of A·B."""
        return self.alpha / self.rank


def is_adapter(path: str | Path) -> bool:
    """Whether a directory holds an adapter of PEFT."""
    return (Path(path) / ADAPTER).is_file()


def read_adapter_config(directory: str | Path) -> Fields:
    """The fields of an adapter_config.json, once all are known to be computed.

    Raises:
        InputError: naming the file and the field.
    """
    path = Path(directory) / ADAPTER
    given = read_object(path, "expected a directory that PEFT saved")
    fields = Fields(path, {**DEFAULTS, **given})
    fields.check(ONLY, DEFAULTS)
    for name, value in sorted(given.items()):
        if value and name not in DEFAULTS and name not in IDLE:
            raise fields.error(f"{name} = {json.dumps(value)} is not supported; leave it out")
    saved = fields["modules_to_save"] or []
    allowed = ("score", "classifier") if fields["task_type"] == REWARD else ()
    for name in saved if isinstance(saved, list) else [saved]:
        if name not in allowed:
            raise fields.error(
                f"modules_to_save: {json.dumps(name)} is not read; only the score of a reward "
                f"model ({REWARD})"
            )
    if allowed and "score" not in saved:
        raise fields.error('modules_to_save: expected ["score"], the head of a reward model')
    for name, kind in (("rank_pattern", int), ("alpha_pattern", float)):
        pattern = fields[name] or {}
        if not isinstance(pattern, dict):
            raise fields.error(f"{name}: expected an object, found {json.dumps(pattern)}")
        for key in pattern:
            check_pattern(fields, name, key)
            Fields(path, {f"{name}: {key}": pattern[key]}).positive(f"{name}: {key}", kind)
    return fields


def check_pattern(fields: Fields, name: str, pattern: str) -> None:
    """Raises `InputError` unless a field's text is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise fields.error(f"{name}: {pattern!r}: {error}; fix it") from error


def modules_of(config: DecoderConfig) -> dict[str, list[Slot]]:
    """Name of each linear module of the layers -> our kernels in it, below each other."""
    kernels = {
        path: shape
        for path, shape in param_shapes(config).items()
        if path.startswith("layers/") and path.endswith("kernel")
    }
    found: dict[str, list[Slot]] = {}
    for slot in slots(kernels, FAMILIES[model_type(config)].names):
        found.setdefault(slot.name.removesuffix(".weight"), []).append(slot)
    return found


def is_expert(slot: Slot) -> bool:
    """Whether a kernel is one of experts or chooses them: transformers 5 has no module for it."""
    return "/experts/" in slot.path or "/router/" in slot.path


def targets(fields: Fields, modules: Mapping[str, list[Slot]]) -> list[str]:
    """The modules that an adapter_config.json chooses, as PEFT chooses them.

    Args:
        fields: of adapter_config.json.
        modules: as `modules_of` gives them.

    Raises:
        InputError: it names none of them, or in another form.
    """
    wanted, excluded = fields["target_modules"], fields["exclude_modules"] or []
    for name, value in (("target_modules", wanted), ("exclude_modules", excluded)):
        if isinstance(value, str):
            check_pattern(fields, name, value)
        elif not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise fields.error(
                f"{name}: expected a list of names or a regular expression, found "
                f"{json.dumps(value)}"
            )
    layers = fields["layers_to_transform"]
    layers = [layers] if type(layers) is int else layers or []
    if not isinstance(layers, list) or (layers and isinstance(wanted, str)):
        raise fields.error("layers_to_transform: expected numbers, and a list of target_modules")
    everywhere = isinstance(wanted, str) and wanted.lower() == "all-linear"
    chosen = [
        name
        for name, (slot, *_) in modules.items()
        if (everywhere or _named(wanted, name))
        and not _named(excluded, name)
        and (not layers or slot.place[0] in layers)
    ]
    if not chosen:
        kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in modules))
        raise fields.error(
            f"target_modules: {json.dumps(wanted)} names no module of the base, which has "
            f"{kinds}; is it another base?"
        )
    return chosen


def _named(given: str | Sequence[str], module: str) -> bool:
    """Whether a regular expression, or an end in a list, is a module's name."""
    if isinstance(given, str):
        return re.fullmatch(given, module) is not None
    return any(f".{module}".endswith(f".{name}") for name in given)


def of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first regular expression that is the end of a module's name."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def load_adapter(directory: str | Path, config: DecoderConfig) -> Adapter:
    """Reads a directory that PEFT saved onto a decoder of any family.

    Module m has W + s_m · B_m·A_m with s_m = alpha_m / r_m, or alpha_m / √r_m.

    Args:
        directory: holds adapter_config.json and adapter_model.safetensors.
        config: the shape of the base.

    Returns:
        One pair a kernel, whose ranks are the largest of its layers'; of layers without a pair
        both are 0.

    Raises:
        InputError: it is no such directory, changes more than A·B does, or a tensor is
            missing, does not fit the base or has no place in it.
    """
    directory = Path(directory)
    fields = read_adapter_config(directory)
    modules = modules_of(config)
    with contextlib.ExitStack() as stack:
        file = open_adapter(directory, stack)
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        chosen = [
            name
            for name in targets(fields, modules)
            if not is_expert(modules[name][0]) or f"{PREFIX}{name}.lora_A.weight" in found
        ]
        ranks = {
            name: of_pattern(fields["rank_pattern"], name, fields.count("r")) for name in chosen
        }
        wanted = [slot for name in chosen for slot in _pair(name, modules[name], ranks[name])]
        if fields["task_type"] == REWARD:
            labels = found.get(SCORE, (1,))[0]
            wanted.append(Slot(SCORE, (labels, config.d_model), "", ()))
        check_tensors(f"{directory}: on this base", wanted, found)
        for slot in wanted:
            dtype = file.get_slice(slot.name).get_dtype()
            if dtype not in FLOATS:
                raise InputError(
                    f"{directory}: tensor {slot.name} is {dtype}; only {', '.join(FLOATS)}"
                )
        read = {slot.name: file.get_tensor(slot.name).astype(np.float32) for slot in wanted}
    root = lambda r: math.sqrt(r) if fields["use_rslora"] else r
    own = fields.positive("lora_alpha", float)
    rank = fields.count("r")
    adapter = Adapter({}, rank, own if not fields["use_rslora"] else own / root(rank) * rank)
    alphas = {name: of_pattern(fields["alpha_pattern"], name, own) for name in chosen}
    factors = {name: alphas[name] / root(ranks[name]) / adapter.scale for name in chosen}
    flat = _stacks(config, {name: modules[name] for name in chosen}, ranks, factors, read)
    return adapter._replace(lora=unflatten_dict(flat, sep="/"), head=read.get(SCORE))


def open_adapter(directory: Path, stack: contextlib.ExitStack) -> Any:
    """The tensors of an adapter, which the stack closes.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    if not (directory / TENSORS).is_file():
        raise InputError(f"{directory}: holds no {TENSORS}; save it by save_pretrained of PEFT")
    return open_file(directory / TENSORS, stack)


def _pair(name: str, parts: Sequence[Slot], rank: int) -> tuple[Slot, Slot]:
    """The tensors of a module: A [r, D_in] and B [D_out, r]."""
    d_out, d_in = parts[0].shape
    return (
        Slot(f"{PREFIX}{name}.lora_A.weight", (rank, d_in), "", ()),
        Slot(f"{PREFIX}{name}.lora_B.weight", (d_out, rank), "", ()),
    )


def _stacks(
    config: DecoderConfig,
    modules: Mapping[str, Sequence[Slot]],
    ranks: Mapping[str, int],
    factors: Mapping[str, float],
    read: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Path of a factor -> all layers' in one array; what no module gives is 0."""
    widest: dict[str, int] = {}
    for name, parts in modules.items():
        for slot in parts:
            widest[slot.path] = max(widest.get(slot.path, 0), ranks[name])
    shapes, flat = param_shapes(config), {}
    for path, rank in widest.items():
        *stack, d_in, d_out = shapes[path]
        parent = path.removesuffix("kernel")
        flat[f"{parent}a"] = np.zeros((*stack, d_in, rank), np.float32)
        flat[f"{parent}b"] = np.zeros((*stack, rank, d_out), np.float32)
    for name, parts in modules.items():
        a, b = (read[slot.name] for slot in _pair(name, parts, ranks[name]))
        scaled = (b.astype(np.float64) * factors[name]).astype(np.float32)
        for slot in parts:
            parent, rows = slot.path.removesuffix("kernel"), slice(*(slot.rows or (None,)))
            flat[f"{parent}a"][slot.place][:, : ranks[name]] = a.T
            flat[f"{parent}b"][slot.place][: ranks[name]] = scaled[rows].T
    return flat


def save_adapter(
    directory: str | Path,
    config: DecoderConfig,
    adapter: Adapter,
    *,
    base: str,
    dtype: str = "float32",
    objects: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Writes a directory that `PeftModel.from_pretrained` loads, and `load_adapter`.

    Kernels that are rows of one module get an A of all their ranks below each other, and a B of
    blocks; where they have the same A, that one.

    Args:
        directory: must not exist, or be empty.
        config: the shape of the base.
        adapter: what is written; with a head it is a reward model's.
        base: for `base_model_name_or_path`.
        dtype: of the tensors: float32, bfloat16 or float16.
        objects: name of another file -> its fields.

    Raises:
        InputError: the directory is not empty or cannot be written, `dtype` is unknown, or the
            LoRA is one of experts.
    """
    check_dtype(dtype)
    check_modules(config, adapter.lora)
    flat = {path: np.asarray(x) for path, x in flatten_dict(adapter.lora, sep="/").items()}
    ranks: dict[str, int] = {}
    tensors: dict[str, np.ndarray] = {}
    for name, parts in modules_of(config).items():
        if any(_factor(slot, "a") in flat for slot in parts):
            a, b = _join(parts, flat)
            ranks[name.rpartition(".")[2]] = len(a)
            tensors |= dict(zip((slot.name for slot in _pair(name, parts, 0)), (a, b), strict=True))
    if adapter.head is not None:
        tensors[SCORE] = np.asarray(adapter.head)
    own = {kind: rank for kind, rank in ranks.items() if rank != adapter.rank}
    fields = DEFAULTS | {
        "alpha_pattern": {k: adapter.alpha * rank / adapter.rank for k, rank in own.items()},
        "base_model_name_or_path": base,
        "inference_mode": True,
        "lora_alpha": adapter.alpha,
        "modules_to_save": None if adapter.head is None else ["score"],
        "peft_type": "LORA",
        "r": adapter.rank,
        "rank_pattern": own,
        "target_modules": sorted(ranks),
        "task_type": LANGUAGE if adapter.head is None else REWARD,
    }
    with whole_directory(Path(directory)) as place:
        for file, value in {ADAPTER: fields, **(objects or {})}.items():
            write_json(place / file, value)
        stored = {k: np.ascontiguousarray(x, dtype=jnp.dtype(dtype)) for k, x in tensors.items()}
        save_file(stored, place / TENSORS, metadata={"format": "pt"})


def check_modules(config: DecoderConfig, lora: PyTree) -> None:
    """Raises `InputError` if a LoRA, or its shapes, changes kernels that PEFT has no module for."""
    paths = {path.rpartition("/")[0] for path in flatten_dict(lora, sep="/")}
    for slot in (slot for parts in modules_of(config).values() for slot in parts):
        if is_expert(slot) and slot.path.removesuffix("/kernel") in paths:
            raise InputError(
                f"lora.targets: {slot.path}: PEFT has no module for it; give --lora.targets attn, "
                "or --export merged"
            )


def _factor(slot: Slot, name: str) -> str:
    """Path of a factor of a kernel."""
    return slot.path.removesuffix("kernel") + name


def _join(parts: Sequence[Slot], flat: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of a module as PEFT holds them, from those of our kernels."""
    stacks = [flat[_factor(slot, "a")] for slot in parts if _factor(slot, "a") in flat]
    shared = all(np.array_equal(stacks[0], other) for other in stacks[1:])
    absent = stacks[0].shape[-1] if shared else 0
    a, b = [], []
    for slot in parts:
        width = slot.shape[0] if slot.rows is None else slot.rows[1] - slot.rows[0]
        if _factor(slot, "a") in flat:
            a.append(flat[_factor(slot, "a")][slot.place].T)
            b.append(flat[_factor(slot, "b")][slot.place])
        else:
            b.append(np.zeros((absent, width), np.float32))
    if shared:
        return a[0], np.concatenate(b, axis=1).T
    return np.concatenate(a), scipy.linalg.block_diag(*b).T
