"""One update: gradients of a weighted sum, accumulated, divided once, applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.train.state import TrainState
from irl_jax.types import InputError, Loss, Objective, PyTree, safe_divide

# state, batch, *frozen arrays -> new state, metrics f32[]
Step = Callable[..., tuple[TrainState, dict[str, Array]]]
RESERVED = ("loss", "grad_norm")


def make_train_step(
    objective: Objective, tx: optax.GradientTransformation, *, accumulate: int = 1
) -> Step:
    """A pure `step(state, batch, *frozen) -> (state, metrics)`.

    With L_i and w_i the `Loss` totals and weights of the micro-batches,

        g = Σᵢ ∇L_i / Σᵢ w_i,

    which is the gradient of the full batch's mean however it is split. A batch whose
    weight is zero gives a zero gradient.

    Args:
        objective: `(params, batch, key, *frozen) -> Loss`; a sum over rows of the batch.
        tx: the optimizer.
        accumulate: number of micro-batches, taken one after the other. It divides
            the batch's leading axis B. Micro-batch i holds rows i, i + accumulate,
            ..., so that a batch cut over devices is split without moving a row.

    Returns:
        The step. Its metrics are `loss` (the mean), `grad_norm` (of g, before what the
        optimizer does to it) and every metric of the objective as sum / weight.

    Raises:
        InputError: if `accumulate` is not positive; on the first call, if it does not
            divide the batch, or the objective names a metric `loss` or `grad_norm`.
    """
    if accumulate < 1:
        raise InputError(f"accumulate: expected at least 1 micro-batch, got {accumulate}")

    def total(params: PyTree, batch: PyTree, key: Array, *frozen: PyTree) -> tuple[Array, Loss]:
        loss = objective(params, batch, key, *frozen)
        return loss.total, loss

    gradient = jax.grad(total, has_aux=True)

    def step(
        state: TrainState, batch: PyTree, *frozen: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        if accumulate == 1:
            grads, loss = gradient(state.params, batch, key, *frozen)
        else:
            grads, loss = _accumulated(gradient, accumulate, state.params, batch, key, *frozen)
        grads = jax.tree.map(lambda g: safe_divide(g, loss.weight), grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        metrics = {"loss": loss.mean, "grad_norm": optax.tree.norm(grads)}
        for name, (value, weight) in loss.metrics.items():
            if name in RESERVED:
                raise InputError(f"metrics: the step itself reports {name!r}; rename this one")
            metrics[name] = safe_divide(value, weight)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            key=state.key,
        ), metrics

    return step


def _accumulated(
    gradient: Callable[..., tuple[PyTree, Loss]],
    n: int,
    params: PyTree,
    batch: PyTree,
    key: Array,
    *frozen: PyTree,
) -> tuple[PyTree, Loss]:
    """Sums of the gradients, totals, weights and metrics of n micro-batches."""

    def split(path: Any, x: Array) -> Array:
        if x.ndim == 0 or x.shape[0] % n:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise InputError(
                f"batch: {name or 'array'} of shape {list(x.shape)} does not split into"
                f" {n} micro-batches; choose a batch size that accumulate={n} divides"
            )
        return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)

    def add(sums: PyTree, item: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        index, micro = item
        terms = gradient(params, micro, jax.random.fold_in(key, index), *frozen)
        return jax.tree.map(jnp.add, sums, terms), None

    items = (jnp.arange(n), jax.tree_util.tree_map_with_path(split, batch))
    first = jax.tree.map(lambda x: x[0], items[1])
    shapes = jax.eval_shape(gradient, params, first, key, *frozen)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, items)[0]
