"""The mesh of devices, and how parameters and batches come onto it and back.

The batch is cut over `data` and `fsdp`, parameters by a table of rules
(`irl_jax.models.sharding`). One device is the mesh 1 x 1 x 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_jax.models.sharding import BATCH, REPLICATED, Rules, parts
from irl_jax.types import InputError, PyTree

AXES = ("data", "fsdp", "tensor")


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[Any] | None = None
) -> Mesh:
    """The mesh `data x fsdp x tensor`.

    Args:
        data: copies of the model, each with its part of the batch. One of the three
            sizes may be -1: whatever the others leave.
        fsdp: parts into which parameters, gradients and optimizer are cut; these
            devices, too, have their own part of the batch.
        tensor: devices that share each matmul of a block.
        devices: all devices by default. In a single process the sizes may ask for
            fewer.

    Raises:
        InputError: if the sizes do not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    given = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise InputError(f"mesh: {given}: sizes are positive, and one of them may be -1")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if open_axes:
        if len(devices) % fixed:
            raise InputError(
                f"mesh: {given}: {fixed} does not divide the number of devices, {len(devices)}"
            )
        sizes[open_axes[0]] = len(devices) // fixed
    count = math.prod(sizes.values())
    if count > len(devices) or (count < len(devices) and jax.process_count() > 1):
        raise InputError(f"mesh: {given} is {count} devices, but there are {len(devices)}")
    return jax.make_mesh(
        tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:count]
    )


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _parameter_sharding(mesh: Mesh, name: str, shape: tuple[int, ...], rules: Rules) -> P:
    """The PartitionSpec of one parameter, checked against its shape."""
    spec = next((spec for pattern, spec in rules if re.search(pattern, name)), None)
    if spec is None:
        raise InputError(
            f"sharding: no rule matches the parameter {name!r};"
            " add one, or append REPLICATED to the rules to leave the rest whole"
        )
    if len(spec) > len(shape):
        raise InputError(f"sharding: {name!r} of shape {list(shape)} is too small for {spec}")
    for axis, (size, entry) in enumerate(zip(shape, spec, strict=False)):
        if size % parts(entry, mesh.shape):
            raise InputError(
                f"sharding: {name!r}: dimension {axis} of size {size} does not divide over"
                f" {entry}={parts(entry, mesh.shape)}; choose another mesh"
            )
    return spec


def parameter_shardings(mesh: Mesh, tree: PyTree, rules: Rules = REPLICATED) -> PyTree:
    """Where each parameter lies: a tree of `NamedSharding`.

    A parameter is cut as the first rule found in its path says; a dimension that does
    not divide is an error, because a silently replicated matrix is a memory bill.
    What should stay whole (heads, norms) has a rule that says so.

    Args:
        mesh: of `make_mesh`.
        tree: arrays or `jax.ShapeDtypeStruct`s.
        rules: (regular expression, PartitionSpec) pairs.

    Raises:
        InputError: if no rule matches a parameter, or one does not divide.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(mesh, _parameter_sharding(mesh, _path(path), x.shape, rules)),
        tree,
    )


def put(tree: PyTree, shardings: PyTree) -> PyTree:
    """Puts arrays and keys where a tree of shardings says; every process has all of them."""

    def one(x: Array, sharding: NamedSharding) -> Array:
        if jax.dtypes.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            data = one(jax.random.key_data(x), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jax.device_put(x, sharding)

    return jax.tree.map(one, tree, shardings)


def global_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """Each process's rows, as arrays over all devices.

    Args:
        mesh: of `make_mesh`.
        batch: this process's rows, [B / processes, ...]: NumPy arrays, or arrays that
            lie on this process alone. Arrays [B, ...] that already span processes, such
            as a program's results, are cut as the others are.

    Returns:
        The same tree of arrays [B, ...], cut over `data` and `fsdp`.

    Raises:
        InputError: if B does not divide over `data` x `fsdp`.
    """
    sharding = NamedSharding(mesh, BATCH)
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    here = max(1, ways // jax.process_count())

    def spread(path: Any, x: Any) -> Array:
        spans = isinstance(x, Array) and not x.is_fully_addressable
        if x.ndim == 0 or x.shape[0] % (ways if spans else here):
            raise InputError(
                f"batch: {_path(path) or 'array'} of shape {list(x.shape)} does not divide over"
                f" data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']};"
                f" choose a batch size that is a multiple of {ways}"
            )
        if spans or jax.process_count() == 1:
            return jax.device_put(x, sharding)
        return jax.make_array_from_process_local_data(sharding, jax.device_get(x))

    return jax.tree_util.tree_map_with_path(spread, batch)


def fetch(tree: PyTree) -> PyTree:
    """Arrays to NumPy, whole, on every process; all processes must call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def sharded_vmap(
    function: Callable[..., PyTree], *, devices: Sequence[Any] | None = None
) -> Callable[..., PyTree]:
    """`jax.vmap` whose rows are cut over the devices: whole training runs, a seed a row.

    Devices exchange nothing. Of N rows each has ⌈N / devices⌉, the last one repeated where that
    is more than there are; devices that would have none are left out.

    Args:
        function: of one row, to arrays.
        devices: all devices by default; in a run of several processes there are no others.

    Returns:
        A function of arrays [N, ...], to be jitted, as `jax.vmap` gives one.

    Raises:
        InputError: on a call, if the arrays do not have the same number of rows, at least one.
    """
    devices = jax.devices() if devices is None else devices

    def run(*rows: PyTree) -> PyTree:
        sizes = {x.shape[0] if x.ndim else None for x in jax.tree.leaves(rows)}
        if len(sizes) != 1 or not (count := sizes.pop()):
            raise InputError("rows: expected arrays with one leading axis of at least 1 row")
        each = math.ceil(count / len(devices))
        mesh = make_mesh(math.ceil(count / each), devices=devices)
        index = jnp.minimum(jnp.arange(each * mesh.size), count - 1)
        cut = P("data")
        # nothing varies over the mesh but by its rows, so that there is nothing to check
        mapped = jax.shard_map(
            jax.vmap(function), mesh=mesh, in_specs=cut, out_specs=cut, check_vma=False
        )
        found = mapped(*jax.tree.map(lambda x: x[index], rows))
        return jax.tree.map(lambda x: x[:count], found)

    return run
