"""One update: gradients of a weighted sum, accumulated, divided once, applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.models.sharding import BATCH, constrain
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


def minibatch_epochs(step: Step, *, epochs: int, minibatches: int) -> Step:
    """A step that learns more from one batch: epochs x minibatches updates.

    An epoch shuffles the rows and takes an update on each part of them in turn. To a loop
    it is one step: a run that is killed goes on from before or after all of the updates,
    with the same bits. Whatever was computed with the batch (behaviour log-probs,
    advantages) stays as it was, so that ratios leave 1 after the first update.

    Args:
        step: a pure step, of `make_train_step`.
        epochs: times that every row is seen.
        minibatches: parts of the batch; they divide its leading axis B.

    Returns:
        The step. Its metrics are means over the updates; `state.step` counts batches, and
        the optimizer's own count, which schedules follow, counts updates.

    Raises:
        InputError: if a number is not positive; on the first call, if `minibatches` does
            not divide the batch.

    Reference: Schulman et al. 2017, arXiv 1707.06347, algorithm 1.
    """
    for name, value in (("epochs", epochs), ("minibatches", minibatches)):
        if value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}")

    def whole(
        state: TrainState, batch: PyTree, *frozen: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        shuffling, updating = jax.random.split(jax.random.fold_in(state.key, state.step))
        rows = jax.tree.leaves(batch)[0].shape[0]

        def epoch(state: TrainState, key: Array) -> tuple[TrainState, dict[str, Array]]:
            order = jax.random.permutation(key, rows)
            # said, since the compiler would leave a gather by random indices whole everywhere
            shuffle = lambda x: constrain(jnp.take(x, order, axis=0), BATCH)
            shuffled = jax.tree.map(shuffle, batch)
            parts = _split(shuffled, minibatches, "minibatches")
            return jax.lax.scan(lambda state, part: step(state, part, *frozen), state, parts)

        # the updates draw from keys of their own; the run's comes back at the end
        inner = replace(state, key=updating, step=jnp.zeros_like(state.step))
        inner, metrics = jax.lax.scan(epoch, inner, jax.random.split(shuffling, epochs))
        after = replace(inner, key=state.key, step=state.step + 1)
        return after, jax.tree.map(jnp.mean, metrics)

    return whole


def side_by_side(**steps: Step) -> Step:
    """One step of several that take turns: a policy's and its discriminator's, say.

    Each learns from its own part of the batch and knows only its own part of the state, an
    optimizer and a key of its own among it; see `irl_jax.train.state.joined`.

    Args:
        **steps: name -> a pure step.

    Returns:
        The step, of batches {name: batch}. Metrics of the first step keep their names, those of
        another are called `NAME_METRIC`.
    """

    def step(
        state: TrainState, batch: PyTree, *frozen: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        after: dict[str, TrainState] = {}
        metrics: dict[str, Array] = {}
        for number, (name, one) in enumerate(steps.items()):
            own = TrainState(
                step=state.step,
                params=state.params[name],
                opt_state=state.opt_state[name],
                key=jax.random.fold_in(state.key, number),
            )
            after[name], found = one(own, batch[name], *frozen)
            metrics |= {f"{name}_{key}" if number else key: x for key, x in found.items()}
        return TrainState(
            step=state.step + 1,
            params={name: own.params for name, own in after.items()},
            opt_state={name: own.opt_state for name, own in after.items()},
            key=state.key,
        ), metrics

    return step


def _split(batch: PyTree, n: int, name: str) -> PyTree:
    """Arrays [B, ...] -> [n, B / n, ...]; part i holds rows i, i + n, ...

    A batch that is cut over devices is split without moving a row.
    """

    def split(path: Any, x: Array) -> Array:
        if x.ndim == 0 or x.shape[0] % n:
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            raise InputError(
                f"batch: {where or 'array'} of shape {list(x.shape)} does not split into"
                f" {n} parts; choose a batch size that {name}={n} divides"
            )
        return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree_util.tree_map_with_path(split, batch)


def _accumulated(
    gradient: Callable[..., tuple[PyTree, Loss]],
    n: int,
    params: PyTree,
    batch: PyTree,
    key: Array,
    *frozen: PyTree,
) -> tuple[PyTree, Loss]:
    """Sums of the gradients, totals, weights and metrics of n micro-batches."""

    def add(sums: PyTree, item: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        index, micro = item
        terms = gradient(params, micro, jax.random.fold_in(key, index), *frozen)
        return jax.tree.map(jnp.add, sums, terms), None

    items = (jnp.arange(n), _split(batch, n, "accumulate"))
    first = jax.tree.map(lambda x: x[0], items[1])
    shapes = jax.eval_shape(gradient, params, first, key, *frozen)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, items)[0]
