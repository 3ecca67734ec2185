"""Reading and writing decoders in Hugging Face's layout: config.json + safetensors."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.huggingface_config import read_config, read_json, write_config
from irl_jax.models.layout import Slot, assemble, check_tensors, param_shapes, slots
from irl_jax.types import InputError, PyTree

NAMES = {
    "embed/embedding": "model.embed_tokens.weight",
    "layers/attn_norm/scale": "model.layers.{}.input_layernorm.weight",
    "layers/attn/q/kernel": "model.layers.{}.self_attn.q_proj.weight",
    "layers/attn/k/kernel": "model.layers.{}.self_attn.k_proj.weight",
    "layers/attn/v/kernel": "model.layers.{}.self_attn.v_proj.weight",
    "layers/attn/q/bias": "model.layers.{}.self_attn.q_proj.bias",
    "layers/attn/k/bias": "model.layers.{}.self_attn.k_proj.bias",
    "layers/attn/v/bias": "model.layers.{}.self_attn.v_proj.bias",
    "layers/attn/o/kernel": "model.layers.{}.self_attn.o_proj.weight",
    "layers/mlp_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "layers/mlp/gate/kernel": "model.layers.{}.mlp.gate_proj.weight",
    "layers/mlp/up/kernel": "model.layers.{}.mlp.up_proj.weight",
    "layers/mlp/down/kernel": "model.layers.{}.mlp.down_proj.weight",
    "final_norm/scale": "model.norm.weight",
    "unembed/kernel": "lm_head.weight",
}
"""Parameter path -> tensor name."""

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
DTYPES = ("float32", "float16", "bfloat16")
SHARD_BYTES = 5 * 10**9
"""An export larger than this is cut into several files."""


def load_huggingface(directory: str | Path) -> tuple[DecoderConfig, PyTree]:
    """Reads a Llama, Mistral or Qwen2 model directory.

    Args:
        directory: holds config.json and model.safetensors, or the shards named by
            model.safetensors.index.json; tensors bf16, f16 or f32.

    Returns:
        The configuration and a nested dict of numpy f32 arrays.

    Raises:
        InputError: if the directory is no such model, a file is damaged, a tensor is
            missing or has another shape, or a field of config.json asks for a
            computation that the decoder does not do.
    """
    directory = Path(directory)
    config = read_config(directory / "config.json")
    with contextlib.ExitStack() as stack:
        files = open_tensors(directory, stack)
        for name in [n for n in files if n.endswith("rotary_emb.inv_freq")]:
            del files[name]  # a constant of older checkpoints
        head, embedding = NAMES["unembed/kernel"], NAMES["embed/embedding"]
        if config.tie_embeddings and {head, embedding} <= set(files):
            read = lambda name: files[name].get_tensor(name)
            if not np.array_equal(read(head), read(embedding)):
                raise InputError(
                    f"{directory}: tensor {head} differs from {embedding} although config.json "
                    "ties them; set tie_word_embeddings to false"
                )
            del files[head]
        return config, read_params(directory, files, param_shapes(config), NAMES)


def read_params(
    directory: Path,
    files: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
) -> PyTree:
    """Reads all tensors of a model, once they are known to be those that it needs.

    Args:
        directory: the model, named in messages.
        files: tensor name -> the open file that holds it, from `open_tensors`; every
            one must have its place.
        shapes: parameter path -> shape.
        names: parameter path -> tensor name, with {} for the number of the layer.

    Returns:
        Nested dict of numpy f32 arrays.

    Raises:
        InputError: a tensor is missing, has another shape or no place, or is not of
            floating point.
    """
    wanted = slots(shapes, names)
    found = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    check_tensors(str(directory), wanted, found)
    for slot in wanted:
        dtype = files[slot.name].get_slice(slot.name).get_dtype()
        if dtype not in FLOATS:
            raise InputError(
                f"{directory}: tensor {slot.name} is {dtype}; only {', '.join(FLOATS)}"
            )
    return assemble(shapes, wanted, lambda name: files[name].get_tensor(name))


def open_tensors(directory: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Opens the safetensors files of a model; nothing but their headers is read.

    Args:
        directory: the model.
        stack: closes the files.

    Returns:
        Tensor name -> the open file that holds it.

    Raises:
        InputError: if a file is missing or damaged.
    """
    if (directory / FILE).is_file():
        names = [FILE]
    elif (directory / INDEX).is_file():
        weight_map = read_json(directory / INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise InputError(f"{directory / INDEX}: weight_map is missing")
        names = sorted({str(name) for name in weight_map.values()})
    else:
        raise InputError(f"{directory}: holds neither {FILE} nor {INDEX}")
    found: dict[str, Any] = {}
    for name in names:
        path = directory / name
        try:
            file = stack.enter_context(safe_open(path, framework="numpy"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file, but {INDEX} names it") from error
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: damaged or truncated ({error})") from error
        found |= dict.fromkeys(file.keys(), file)
    return found


def save_huggingface(
    directory: str | Path,
    config: DecoderConfig,
    params: PyTree,
    *,
    dtype: str = "float32",
    eos_token_id: int | None = None,
) -> None:
    """Writes a directory that `transformers.AutoModelForCausalLM.from_pretrained` loads.

    The directory appears whole or not at all. Models above 5 GB are cut into files
    of at most that size. The tokenizer's files are not written.

    Args:
        directory: must not exist, or be empty.
        config: the shape.
        params: nested dict of arrays; a LoRA is to be merged before.
        dtype: of the tensors: float32, bfloat16 or float16.
        eos_token_id: where `generate` of transformers stops by itself; never if None.

    Raises:
        InputError: if the directory is not empty or cannot be written, `dtype` is unknown,
            or the parameters are not those of `config`.
    """
    directory = Path(directory)
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not supported; use one of {', '.join(DTYPES)}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: exists and is not empty; choose another directory")
    flat = flatten_dict(params, sep="/")
    check_params(config, flat)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.parent / f".{directory.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        text = json.dumps(write_config(config, dtype, eos_token_id), indent=2, sort_keys=True)
        (temporary / "config.json").write_text(text + "\n", encoding="utf-8")
        write_tensors(temporary, shards(slots(param_shapes(config), NAMES), dtype), flat, dtype)
        for file in temporary.glob("*.safetensors"):  # for its writer alone, as safetensors has it
            shutil.copymode(temporary / "config.json", file)
        temporary.replace(directory)
    except SafetensorError as error:  # what the operating system refused
        raise InputError(
            f"{directory}: cannot be written ({error}); make room or choose another directory"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
            {slot.name: tensor for slot, tensor in tensors_of(wanted, flat, dtype)},
            directory / name,
            metadata={"format": "pt"},
        )
        weight_map |= {slot.name: name for slot in wanted}
    if len(files) > 1:
        total = sum(int(np.prod(slot.shape)) for wanted in files for slot in wanted)
        index = {
            "metadata": {"total_size": total * jnp.dtype(dtype).itemsize},
            "weight_map": weight_map,
        }
        text = json.dumps(index, indent=2, sort_keys=True)
        (directory / INDEX).write_text(text + "\n", encoding="utf-8")


def tensors_of(
    wanted: list[Slot], flat: Mapping[str, Any], dtype: str
) -> Iterator[tuple[Slot, np.ndarray]]:
    """Each tensor of a file as the checkpoint holds it; a parameter is fetched once."""
    path, leaf = "", np.empty(0)
    for slot in wanted:
        if slot.path != path:
            path, leaf = slot.path, np.asarray(flat[slot.path])
        tensor = leaf if slot.layer is None else leaf[slot.layer]
        tensor = tensor.T if slot.transposed else tensor
        yield slot, np.ascontiguousarray(tensor, dtype=jnp.dtype(dtype))
