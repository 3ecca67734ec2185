"""Reading and writing decoders in Hugging Face's layout: config.json + safetensors."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.families import FAMILIES
from irl_jax.models.huggingface_config import (
    GENERATION,
    WHOLE,
    model_type,
    read_config,
    write_config,
)
from irl_jax.models.layout import (
    ReadPart,
    Slot,
    assemble,
    check_tensors,
    param_shapes,
    slots,
    stream,
)
from irl_jax.types import InputError, PyTree

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
DTYPES = ("float32", "float16", "bfloat16")
SHARD_BYTES = 5 * 10**9
"""An export larger than this is cut into several files."""


def load_huggingface(
    directory: str | Path, mesh: Mesh | None = None
) -> tuple[DecoderConfig, PyTree]:
    """Reads a model directory of one of the families (`irl_jax.models.families`).

    Args:
        directory: holds config.json and model.safetensors, or the shards named by
            model.safetensors.index.json; tensors bf16, f16 or f32.
        mesh: where the parameters are to lie; each process then reads what it holds.

    Returns:
        The configuration and a nested dict of f32 arrays, of numpy without a mesh.

    Raises:
        InputError: if the directory is no such model, a file is damaged, a tensor is
            missing or has another shape, or a field of config.json asks for a
            computation that the decoder does not do.
    """
    directory = Path(directory)
    config = read_config(directory / "config.json")
    with contextlib.ExitStack() as stack:
        files = drop_constants(open_tensors(directory, stack))
        names = FAMILIES[model_type(config)].names
        head, embedding = names["unembed/kernel"], names["embed/embedding"]
        if config.tie_embeddings and {head, embedding} <= set(files):
            read = lambda name: files[name].get_tensor(name)
            if not np.array_equal(read(head), read(embedding)):
                raise InputError(
                    f"{directory}: tensor {head} differs from {embedding} although config.json "
                    "ties them; set tie_word_embeddings to false"
                )
            del files[head]
        return config, read_params(directory, files, param_shapes(config), names, mesh)


def read_params(
    directory: Path,
    files: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    mesh: Mesh | None = None,
    dtype: str = "float32",
) -> PyTree:
    """Reads all tensors of a model, once they are known to be those that it needs.

    Args:
        directory: the model, named in messages.
        files: tensor name -> the open file that holds it, from `open_tensors`; every
            one must have its place.
        shapes: parameter path -> shape.
        names: parameter path -> tensor name, with {} for the number of the layer.
        mesh: as `load_huggingface` takes it.
        dtype: as `stream` takes it, with a mesh.

    Returns:
        Nested dict of f32 arrays, of numpy without a mesh.

    Raises:
        InputError: a tensor is missing, has another shape or no place, or is not of
            floating point.
    """
    wanted = slots(shapes, names)
    found = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    check_tensors(str(directory), wanted, found)
    for slot in wanted:
        held = files[slot.name].get_slice(slot.name).get_dtype()
        if held not in FLOATS:
            raise InputError(f"{directory}: tensor {slot.name} is {held}; only {', '.join(FLOATS)}")
    if mesh is None:
        return assemble(shapes, wanted, lambda name: files[name].get_tensor(name))
    return stream(shapes, wanted, part_reader(directory), mesh, dtype)


def part_reader(directory: Path) -> ReadPart:
    """Reads parts of a model's tensors; of a file nothing stays mapped in memory in between."""
    whole = (directory / FILE).is_file()
    weight_map = {} if whole else read_weight_map(directory / INDEX)

    def read(name: str, part: tuple[slice, ...]) -> np.ndarray:
        with contextlib.ExitStack() as stack:
            file = open_file(directory / weight_map.get(name, FILE), stack)
            found: np.ndarray = file.get_slice(name)[part]
        return found

    return read


def open_tensors(directory: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Opens the safetensors files of a model; nothing but their headers is read.

    Of several files the index says which one holds a tensor; a copy in another is not read.

    Args:
        directory: the model.
        stack: closes the files.

    Returns:
        Tensor name -> the open file that holds it.

    Raises:
        InputError: if a file is missing or damaged, or the files hold other tensors than
            the index says.
    """
    if (directory / FILE).is_file():
        file = open_file(directory / FILE, stack)
        return dict.fromkeys(file.keys(), file)
    if not (directory / INDEX).is_file():
        raise InputError(f"{directory}: holds neither {FILE} nor {INDEX}")
    weight_map = read_weight_map(directory / INDEX)
    files = {name: open_file(directory / name, stack) for name in sorted(set(weight_map.values()))}
    held = {name: set(file.keys()) for name, file in files.items()}
    for tensor, name in weight_map.items():
        if tensor not in held[name]:
            raise InputError(
                f"{directory / name}: tensor {tensor} is not in it, but {INDEX} says so; fetch "
                "the model's files again"
            )
    for name, tensors in held.items():
        for tensor in sorted(tensors - set(weight_map)):
            raise InputError(
                f"{directory / INDEX}: tensor {tensor} of {name} is not in weight_map; fetch the "
                "model's files again"
            )
    return {tensor: files[name] for tensor, name in weight_map.items()}


def drop_constants(files: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint without the constants that older ones hold."""
    return {name: file for name, file in files.items() if not name.endswith("rotary_emb.inv_freq")}


def open_file(path: Path, stack: contextlib.ExitStack) -> Any:
    """One safetensors file, which the stack closes.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        return stack.enter_context(safe_open(path, framework="numpy"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, but {INDEX} names it") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or truncated ({error})") from error


def read_weight_map(path: Path) -> dict[str, str]:
    """Tensor name -> name of the file beside the index that holds it.

    Raises:
        InputError: if the index says no such thing.
    """
    weight_map = read_object(path, WHOLE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path}: weight_map is missing or empty; fetch the file again")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise InputError(
                f"{path}: weight_map: {tensor} is in {json.dumps(name)}; expected the name of a "
                "file in this directory"
            )
    return weight_map


def save_huggingface(
    directory: str | Path,
    config: DecoderConfig,
    params: PyTree,
    *,
    dtype: str = "float32",
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
) -> None:
    """Writes a directory that `transformers.AutoModelForCausalLM.from_pretrained` loads.

    The directory appears whole or not at all. Models above 5 GB are cut into files
    of at most that size. The tokenizer's files are not written.

    Args:
        directory: must not exist, or be empty.
        config: the shape.
        params: nested dict of arrays; a LoRA is to be merged before.
        dtype: of the tensors: float32, bfloat16 or float16.
        eos_token_id: where `generate` of transformers stops by itself; never if None. All of
            several ids stand in generation_config.json, which it reads first, the first one
            in config.json as well.
        pad_token_id: what `generate` of transformers pads with; the EOS if None.

    Raises:
        InputError: if the directory is not empty or cannot be written, `dtype` is unknown,
            or the parameters or ids are not those of `config`.
    """
    flat = flatten_dict(params, sep="/")
    check_params(config, flat)
    generation = generation_config(config, eos_token_id, pad_token_id)
    first = None if eos_token_id is None else int(np.ravel(eos_token_id)[0])
    fields = {"config.json": write_config(config, dtype, first)}
    if generation:
        fields[GENERATION] = generation
    names = FAMILIES[model_type(config)].names
    write_model(Path(directory), fields, param_shapes(config), names, flat, dtype)


def write_model(
    directory: Path,
    objects: Mapping[str, Mapping[str, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    flat: Mapping[str, Any],
    dtype: str,
) -> None:
    """Writes a directory of JSON files and tensors, whole or not at all.

    Args:
        directory: must not exist, or be empty.
        objects: name of a file -> its fields.
        shapes: parameter path -> shape.
        names: parameter path -> tensor name, with {} for the number of the layer.
        flat: parameter path -> array.
        dtype: of the tensors.

    Raises:
        InputError: the directory is not empty or cannot be written, or `dtype` is unknown.
    """
    check_dtype(dtype)
    with whole_directory(directory) as temporary:
        for name, fields in objects.items():
            write_json(temporary / name, fields)
        write_tensors(temporary, shards(slots(shapes, names), dtype), flat, dtype)


def check_dtype(dtype: str) -> None:
    """Raises `InputError` unless tensors are written in this dtype."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not supported; use one of {', '.join(DTYPES)}")


@contextlib.contextmanager
def whole_directory(directory: Path) -> Iterator[Path]:
    """A directory to fill with files, JSON among them, that then takes the place of another.

    Args:
        directory: must not exist, or be empty; it appears whole or not at all.

    Raises:
        InputError: the directory is not empty or cannot be written.
    """
    temporary = directory.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InputError(f"{directory}: exists and is not empty; choose another directory")
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.glob("*.safetensors"):  # for its writer alone, as safetensors has it
            shutil.copymode(next(temporary.glob("*.json")), file)
        temporary.replace(directory)
    except (SafetensorError, OSError) as error:  # what the operating system refused
        raise InputError(
            f"{directory}: cannot be written ({error}); make room or choose another directory"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def generation_config(
    config: DecoderConfig, eos_token_id: int | Sequence[int] | None, pad_token_id: int | None
) -> dict[str, Any]:
    """The generation_config.json of a decoder: its special tokens, and nothing of sampling.

    Raises:
        InputError: an id is none of the embedding.
    """
    given = {"eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        ids = [int(i) for i in np.ravel(value)]
        if not ids or not all(0 <= i < config.vocab_size for i in ids):
            raise InputError(f"{name}: expected ids below {config.vocab_size}, got {value!r}")
        fields[name] = ids[0] if len(ids) == 1 else ids
    return fields


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, its fields in order of their names."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_params(config: DecoderConfig, flat: Mapping[str, Any]) -> None:
    """Raises `InputError` unless these are exactly the parameters of `config`."""
    expected = param_shapes(config)
    lora = [path for path in flat if path.endswith(("lora_a", "lora_b"))]
    if lora:
        raise InputError(f"params: {lora[0]}: merge the LoRA first (irl_jax.models.lora.merge)")
    for path in sorted(expected.keys() | flat.keys()):
        want = list(expected[path]) if path in expected else "nothing"
        got = list(np.shape(flat[path])) if path in flat else "nothing"
        if want != got:
            raise InputError(f"params: {path}: expected {want}, got {got}")


def shards(wanted: list[Slot], dtype: str) -> list[list[Slot]]:
    """Cuts a list of tensors, in order, into files of at most `SHARD_BYTES`."""
    files: list[list[Slot]] = [[]]
    used = 0
    for slot in wanted:
        if files[-1] and slot.name == files[-1][-1].name:
            files[-1].append(slot)
            continue
        size = int(np.prod(slot.shape)) * jnp.dtype(dtype).itemsize
        if files[-1] and used + size > SHARD_BYTES:
            files.append([])
            used = 0
        files[-1].append(slot)
        used += size
    return files


def write_tensors(
    directory: Path, files: list[list[Slot]], flat: Mapping[str, Any], dtype: str
) -> None:
    """Writes the tensors, and the index if there is more than one file.

    Args:
        directory: where to.
        files: the tensors of each file.
        flat: parameter path -> array.
        dtype: of the tensors.
    """
    weight_map: dict[str, str] = {}
    for number, wanted in enumerate(files, start=1):
        name = FILE if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file(
            dict(tensors_of(wanted, flat, dtype)),
            directory / name,
            metadata={"format": "pt"},
        )
        weight_map |= {slot.name: name for slot in wanted}
    if len(files) > 1:
        sizes = {slot.name: int(np.prod(slot.shape)) for wanted in files for slot in wanted}
        total = sum(sizes.values())
        index = {
            "metadata": {"total_size": total * jnp.dtype(dtype).itemsize},
            "weight_map": weight_map,
        }
        write_json(directory / INDEX, index)


def tensors_of(
    wanted: list[Slot], flat: Mapping[str, Any], dtype: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of each tensor of a file as the checkpoint holds it.

    A parameter is fetched once, as long as the tensors that it is in follow each other.
    """
    held: dict[str, np.ndarray] = {}
    for name, group in itertools.groupby(wanted, lambda slot: slot.name):
        parts = list(group)
        held = {part.path: held.get(part.path, flat[part.path]) for part in parts}
        held = {path: np.asarray(leaf) for path, leaf in held.items()}
        leaves = [(part, held[part.path][part.place]) for part in parts]
        tensors = [leaf.T if part.transposed else leaf for part, leaf in leaves]
        whole = np.concatenate(tensors) if len(tensors) > 1 else tensors[0]
        yield name, np.ascontiguousarray(whole, dtype=jnp.dtype(dtype))
