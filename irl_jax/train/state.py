"""What a training run carries from step to step, and all that it needs to go on."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.types import PyTree


@flax.struct.dataclass
class TrainState:
    """Parameters, optimizer and randomness after `step` updates.

    Attributes:
        step: i32[], number of updates done.
        params: trainable parameters, f32.
        opt_state: state of the optax transformation.
        key: typed PRNG key of the run; never changes. Step n draws from
            `fold_in(key, n)`.
    """

    step: Array
    params: PyTree
    opt_state: PyTree
    key: Array


def init_state(params: PyTree, tx: optax.GradientTransformation, key: Array) -> TrainState:
    """A state before its first update.

    The parameters are copied: a step donates its state, and the caller's own arrays
    often live on as the reference policy.

    Args:
        params: trainable parameters.
        tx: the optimizer.
        key: typed PRNG key (`jax.random.key`).
    """
    params = jax.tree.map(jnp.copy, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params), key=key
    )


def joined(key: Array, **states: TrainState) -> TrainState:
    """The state of `train.step.side_by_side` before its first update.

    Args:
        key: typed PRNG key.
        **states: name -> that of a step; their keys are not read.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params={name: state.params for name, state in states.items()},
        opt_state={name: state.opt_state for name, state in states.items()},
        key=key,
    )
