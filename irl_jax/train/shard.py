"""One mesh, one path: a step on one device, on eight and on several processes.

The batch is cut over `data` and `fsdp`, parameters by a table of rules
(`irl_jax.models.sharding`), and the optimizer's arrays lie where the parameters they
belong to lie. One device is the mesh 1 x 1 x 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_jax.models.sharding import BATCH, REPLICATED, Rules, parts
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
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


def shardings(mesh: Mesh, tree: PyTree, rules: Rules = REPLICATED) -> PyTree:
    """Where each array of a tree lies: a tree of `NamedSharding`.

    A parameter is cut as the first rule found in its path says; a dimension that does
    not divide is an error, because a silently replicated matrix is a memory bill.
    What should stay whole (heads, norms) has a rule that says so. In a `TrainState`,
    an array of the optimizer that has the path and the shape of a parameter lies
    where the parameter does; the rest (counts, factored moments, step, key) is whole.

    Args:
        mesh: of `make_mesh`.
        tree: parameters or a `TrainState`; arrays or `jax.ShapeDtypeStruct`s.
        rules: (regular expression, PartitionSpec) pairs.

    Raises:
        InputError: if no rule matches a parameter, or one does not divide.
    """
    if not isinstance(tree, TrainState):
        return jax.tree_util.tree_map_with_path(
            lambda path, x: NamedSharding(
                mesh, _parameter_sharding(mesh, _path(path), x.shape, rules)
            ),
            tree,
        )
    whole = NamedSharding(mesh, P())
    params = shardings(mesh, tree.params, rules)
    leaves = jax.tree_util.tree_leaves_with_path(tree.params)
    placed = {
        (tuple(path), x.shape): sharding
        for (path, x), sharding in zip(leaves, jax.tree.leaves(params), strict=True)
    }

    def follow(path: Any, x: Any) -> NamedSharding:
        suffixes = (tuple(path[start:]) for start in range(len(path) + 1))
        found = (placed.get((suffix, x.shape)) for suffix in suffixes)
        return next((sharding for sharding in found if sharding is not None), whole)

    opt_state = jax.tree_util.tree_map_with_path(follow, tree.opt_state)
    return TrainState(step=whole, params=params, opt_state=opt_state, key=whole)  # type: ignore[arg-type]


def place(mesh: Mesh, tree: PyTree, rules: Rules = REPLICATED) -> PyTree:
    """Puts parameters or a `TrainState` where `shardings` says; every process has all of it."""

    def put(x: Array, sharding: NamedSharding) -> Array:
        if jax.dtypes.issubdtype(jax.numpy.result_type(x), jax.dtypes.prng_key):
            data = put(jax.random.key_data(x), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jax.device_put(x, sharding)

    return jax.tree.map(put, tree, shardings(mesh, tree, rules))


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

    def put(path: Any, x: Any) -> Array:
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

    return jax.tree_util.tree_map_with_path(put, batch)


def fetch(tree: PyTree) -> PyTree:
    """Arrays to NumPy, whole, on every process; all processes must call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def jit_step(
    step: Step, mesh: Mesh, state: TrainState, rules: Rules = REPLICATED, *, frozen: tuple = ()
) -> Step:
    """Compiles a step for a mesh; it donates its state.

    Args:
        step: of `make_train_step`.
        mesh: of `make_mesh`; inside the step it is the mesh in context.
        state: the state, or its shapes.
        rules: of the parameters, trainable and frozen.
        frozen: the step's further arguments, or their shapes; placed by `place`.

    Returns:
        `(state, batch, *frozen) -> (state, metrics)`. The batch is what
        `global_batch` takes; metrics are on every device.
    """
    state_sharding = shardings(mesh, state, rules)
    compiled = jax.jit(
        step,
        in_shardings=(
            state_sharding,
            NamedSharding(mesh, BATCH),
            *(shardings(mesh, tree, rules) for tree in frozen),
        ),
        out_shardings=(state_sharding, NamedSharding(mesh, P())),
        donate_argnums=0,
    )

    def run(state: TrainState, batch: PyTree, *frozen: PyTree) -> tuple[TrainState, dict]:
        with jax.set_mesh(mesh):
            return compiled(state, global_batch(mesh, batch), *frozen)

    return run
