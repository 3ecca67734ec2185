"""One path for a step: on one device, on eight and on several processes.

The batch and the parameters lie as `irl_jax.models.mesh` says, and the optimizer's
arrays lie where the parameters they belong to lie.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from irl_jax.models.mesh import global_batch, parameter_shardings, put
from irl_jax.models.sharding import BATCH, REPLICATED, Rules
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import PyTree


def shardings(mesh: Mesh, tree: PyTree, rules: Rules = REPLICATED) -> PyTree:
    """Where each array of a tree lies: a tree of `NamedSharding`.

    Parameters lie as `irl_jax.models.mesh.parameter_shardings` says. In a `TrainState`,
    an array of the optimizer that has the path and the shape of a parameter lies
    where the parameter does; the rest (counts, factored moments, step, key) is whole. In a
    `joined` state the path begins with the name of the step.

    Args:
        mesh: of `make_mesh`.
        tree: parameters or a `TrainState`; arrays or `jax.ShapeDtypeStruct`s.
        rules: (regular expression, PartitionSpec) pairs.

    Raises:
        InputError: if no rule matches a parameter, or one does not divide.
    """
    if not isinstance(tree, TrainState):
        return parameter_shardings(mesh, tree, rules)
    whole = NamedSharding(mesh, P())
    params = parameter_shardings(mesh, tree.params, rules)
    leaves = jax.tree_util.tree_leaves_with_path(tree.params)
    placed = {
        (tuple(path), x.shape): sharding
        for (path, x), sharding in zip(leaves, jax.tree.leaves(params), strict=True)
    }

    def follow(path: Any, x: Any) -> NamedSharding:
        suffixes = [tuple(path[start:]) for start in range(len(path) + 1)]
        suffixes += [(path[0], *suffix) for suffix in suffixes[2:]]
        found = (placed.get((suffix, x.shape)) for suffix in suffixes)
        return next((sharding for sharding in found if sharding is not None), whole)

    opt_state = jax.tree_util.tree_map_with_path(follow, tree.opt_state)
    return TrainState(step=whole, params=params, opt_state=opt_state, key=whole)  # type: ignore[arg-type]


def place(mesh: Mesh, tree: PyTree, rules: Rules = REPLICATED) -> PyTree:
    """Puts parameters or a `TrainState` where `shardings` says; every process has all of it."""
    return put(tree, shardings(mesh, tree, rules))


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
