"""How a checkpoint's tensors, one per layer, become a model's stacked parameters.

Both GGUF and Hugging Face keep a projection as [D_out, D_in], one tensor for each
layer; our models keep [L, D_in, D_out], all layers in one array. Importers and the
exporter differ only in the tensors' names, so the rest is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.mesh import parameter_shardings
from irl_jax.models.sharding import RULES
from irl_jax.types import InputError, PyTree

# tensor name, slices of its dimensions -> that part of it
ReadPart = Callable[[str, tuple[slice, ...]], np.ndarray]


class Slot(NamedTuple):
    """One tensor of a checkpoint and its place in the parameters.

    Attributes:
        name: the tensor's name in the checkpoint.
        shape: its shape there; a projection is [D_out, D_in].
        path: "/"-joined path of the parameter.
        place: index on the parameter's leading axes, of the layer, and of the expert where
            there are any; empty if it is not stacked.
        rows: the first row of the tensor that is the parameter's, and the first after; None
            if all are.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    place: tuple[int, ...]
    rows: tuple[int, int] | None = None

    @property
    def transposed(self) -> bool:
        """Whether the checkpoint holds the transpose of the parameter."""
        return self.path.endswith("kernel")


def param_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of the decoder by its "/"-joined path."""
    tree = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def slots(shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str]) -> list[Slot]:
    """Every tensor that a checkpoint of a model holds, layers in order.

    Args:
        shapes: parameter path -> shape; those below "layers/" have the layers first, and
            those of experts the experts after them.
        names: parameter path -> tensor name, with {} for the number of the layer, and
            another for that of the expert. Parameters of one name are rows of one tensor,
            in their order here.
    """
    order, found = list(names), []
    for path, shape in shapes.items():
        depth = path.startswith("layers/") + ("/experts/" in path)
        inner = shape[depth:][::-1] if path.endswith("kernel") else shape[depth:]
        for place in np.ndindex(*shape[:depth]):
            found.append(Slot(names[path].format(*place), inner, path, place))
    parts: dict[str, list[Slot]] = {}
    for slot in found:
        parts.setdefault(slot.name, []).append(slot)
    below = lambda slot: order.index(slot.path)
    return [slot for group in parts.values() for slot in _joined(sorted(group, key=below))]


def _joined(parts: list[Slot]) -> list[Slot]:
    """Parameters that share a tensor, below each other."""
    if len(parts) == 1:
        return parts
    ends = np.cumsum([0, *(part.shape[0] for part in parts)]).tolist()
    shape = (ends[-1], *parts[0].shape[1:])
    return [part._replace(shape=shape, rows=(ends[i], ends[i + 1])) for i, part in enumerate(parts)]


def check_tensors(place: str, wanted: list[Slot], found: Mapping[str, tuple[int, ...]]) -> None:
    """Compares the tensors of a checkpoint with those that the model needs.

    Args:
        place: the checkpoint, named in messages.
        wanted: what the model needs.
        found: name -> shape of what is there.

    Raises:
        InputError: naming the first tensor that is missing, has another shape, or has
            no place in the model (its part of the computation would be lost).
    """
    for slot in wanted:
        if slot.name not in found:
            raise InputError(
                f"{place}: tensor {slot.name} is missing (expected shape {list(slot.shape)})"
            )
        if tuple(found[slot.name]) != slot.shape:
            raise InputError(
                f"{place}: tensor {slot.name}: expected shape {list(slot.shape)}, "
                f"found {list(found[slot.name])}"
            )
    extra = sorted(set(found) - {slot.name for slot in wanted})
    if extra:
        raise InputError(
            f"{place}: tensor {extra[0]} {list(found[extra[0]])} has no place in this model "
            f"({len(extra)} such tensors)"
        )


def assemble(
    shapes: Mapping[str, tuple[int, ...]], wanted: list[Slot], read: Callable[[str], np.ndarray]
) -> PyTree:
    """Reads tensors one at a time into stacked f32 parameters.

    Args:
        shapes: parameter path -> shape.
        wanted: what `slots` gave.
        read: tensor name -> array of the slot's shape.

    Returns:
        Nested dict of numpy f32 arrays.
    """
    flat = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    for slot in wanted:
        tensor = read(slot.name)
        if slot.rows is not None:
            tensor = tensor[slice(*slot.rows)]
        flat[slot.path][slot.place][...] = tensor.T if slot.transposed else tensor
    return unflatten_dict(flat, sep="/")


def stream(
    shapes: Mapping[str, tuple[int, ...]],
    wanted: list[Slot],
    read: ReadPart,
    mesh: Mesh,
    dtype: str = "float32",
) -> PyTree:
    """Reads parameters to where they lie on a mesh, as `assemble` reads them to the host.

    Each process reads what its devices hold, and at a time no more than one device holds of one
    parameter.

    Args:
        shapes: parameter path -> shape.
        wanted: what `slots` gave.
        read: gives parts of tensors.
        mesh: the devices; parameters are cut by `models.sharding.RULES`.
        dtype: of matrices, which a computation in it rounds to it in any case.

    Returns:
        Nested dict of arrays, f32 but for matrices.

    Raises:
        InputError: the mesh does not fit a parameter.
    """
    placed: dict[str, dict[tuple[int, ...], Slot]] = {path: {} for path in shapes}
    for slot in wanted:
        placed[slot.path][slot.place] = slot
    structs = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()}
    shardings = flatten_dict(
        parameter_shardings(mesh, unflatten_dict(structs, sep="/"), RULES), sep="/"
    )
    arrays = {
        path: jax.make_array_from_callback(
            shape,
            shardings[path],
            partial(_part, placed[path], shape, read, kept_dtype(path, dtype)),
        )
        for path, shape in shapes.items()
    }
    return unflatten_dict(arrays, sep="/")


def kept_dtype(path: str, dtype: str) -> str:
    """The dtype in which a parameter is kept for a computation in `dtype` that it leaves as it is.

    Biases, scales and heads stay f32.
    """
    decoder = path.startswith(("layers/", "embed/", "unembed/"))
    return dtype if decoder and path.endswith(("kernel", "embedding")) else "float32"


def _part(
    placed: Mapping[tuple[int, ...], Slot],
    shape: tuple[int, ...],
    read: ReadPart,
    dtype: str,
    index: tuple[slice, ...],
) -> np.ndarray:
    """A part of a parameter, from the tensors at the places on its leading axes."""
    bounds = [cut.indices(size)[:2] for cut, size in zip(index, shape, strict=True)]
    depth = len(next(iter(placed)))
    out = np.empty([stop - start for start, stop in bounds], jnp.dtype(dtype))
    for place in itertools.product(*(range(*ends) for ends in bounds[:depth])):
        slot = placed[place]
        inner = bounds[depth:][::-1] if slot.transposed else bounds[depth:]
        if slot.rows is not None:
            (start, stop), *others = inner
            inner = [(slot.rows[0] + start, slot.rows[0] + stop), *others]
        tensor = read(slot.name, tuple(slice(*ends) for ends in inner))
        here = tuple(i - start for i, (start, _) in zip(place, bounds, strict=False))
        out[here] = tensor.T if slot.transposed else tensor
    return out
