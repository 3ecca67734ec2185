"""What both loops do between updates: resume, record, save, stop when asked."""

from __future__ import annotations

import itertools
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import jax
from jax.experimental import multihost_utils

from irl_jax.rewards.contract import check_takes
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.keys import Draw, loop_key
from irl_jax.train.progress import Advance, Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, LoopContext, PyTree

# measures what is trained; its numbers are logged
Evaluation = Callable[[LoopContext], Mapping[str, Any] | None]


def context_of(
    state: TrainState,
    done: int,
    steps: int,
    draw: Draw,
    attempt: int = 0,
    **said: Mapping[str, Any],
) -> LoopContext:
    """What a loop tells a function that it calls after `done` of `steps` updates.

    Args:
        state: after these updates.
        done: number of updates.
        steps: number of updates in all.
        draw: what the function draws random numbers for.
        attempt: as `loop_key` takes it.
        **said: `parts` and `metrics` of the reward, where it has been asked.
    """
    key = loop_key(state.key, draw, done, attempt)
    return LoopContext(done, done / max(steps, 1), state.params, key, **said)


ASKED = itertools.count(1)  # numbers what this process asks the others


class Interruption:
    """A request to stop, by SIGTERM (a scheduler) or SIGINT (Ctrl-C).

    Attributes:
        signum: the signal, or None while there was none.
    """

    signum: int | None = None

    def requested(self) -> bool:
        """Whether to stop after this update; every process asks after every update.

        Several processes agree on the update: the next that none has begun. They number their
        questions for it, over all loops of a run, since each loop numbers its updates anew.
        """
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(ASKED)):
            self.signum = signal.SIGTERM
        return self.signum is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Notes SIGTERM and the first Ctrl-C instead of dying; earlier handlers come back.

    A second Ctrl-C stops at once. With several processes, JAX's own service notes a
    SIGTERM that any of them gets, and Ctrl-C is one. Outside the main thread nothing is
    noted, since Python handles signals only there.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    several = jax.process_count() > 1

    def note(signum: int, _: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this update (Ctrl-C: at once)", file=sys.stderr, flush=True)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            interruption.signum = signum

    noted = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in noted}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LoopRecord:
    """The record of a loop: its data's position, its metrics and its checkpoints.

    Attributes:
        state: the state to start from.
        start: number of updates it has seen.
    """

    def __init__(
        self,
        state: TrainState,
        batches: Iterator[PyTree],
        *,
        steps: int,
        evaluate: Evaluation | None,
        evaluate_every: int,
        run: RunDirectory | None,
        checkpoints: Checkpointer | None,
        save_every: int,
        stage: str,
        interruption: Interruption,
    ):
        """Restores the latest checkpoint, if any, and rewinds the data and the run to it."""
        if save_every < 1:
            raise InputError(f"save_every: expected at least 1 update, got {save_every}")
        if evaluate_every < 0:
            raise InputError(f"evaluate_every: expected 0 or more updates, got {evaluate_every}")
        if evaluate is not None:
            check_takes("evaluate", evaluate, "context")
        if checkpoints is not None and not hasattr(batches, "get_state"):
            raise InputError(
                "batches: checkpoints need an iterator with get_state and set_state;"
                " pass one (iterators of grain datasets have them) or no checkpoints"
            )
        self._batches = cast(Any, batches)  # has get_state, set_state if there are checkpoints
        self._steps, self._save_every, self._stage = steps, save_every, stage
        self._evaluate, self._evaluate_every = evaluate, evaluate_every
        self._run, self._checkpoints, self._interruption = run, checkpoints, interruption
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._position: Any = None
        self._begun: int | None = None
        self._advance: Advance = lambda step, metrics: None
        restored = None if checkpoints is None else checkpoints.restore(state)
        if restored is not None:
            state = restored[0]
            self._batches.set_state(restored[1])
        self.state, self.start = state, int(state.step)
        if run is not None:
            run.rewind(self.start, self._stage)
            if evaluate is not None:  # what was measured at the start is measured again
                run.rewind(self.start - 1, self._evaluations)

    @property
    def _evaluations(self) -> str:
        """Stage of what evaluations find."""
        return f"{self._stage} evaluation"

    def show(self, progress: Progress) -> None:
        """Reports progress there from now on."""
        self._advance = progress.stage(self._stage, self._steps, self.start)

    def next_batch(self, done: int) -> PyTree:
        """The next batch; where the first one of an update began is remembered.

        Raises:
            InputError: if the data ended.
        """
        if self._checkpoints is not None and self._begun != done:
            self._begun, self._position = done, self._batches.get_state()
        try:
            return next(self._batches)
        except StopIteration:
            raise InputError(
                f"batches: the data ended after {done} of {self._steps} updates;"
                " repeat the data or ask for fewer steps"
            ) from None

    def evaluate(self, done: int, state: TrainState) -> None:
        """Evaluates the state after `done` updates if it is time to, and logs what is found.

        Raises:
            InputError: if the loss or the gradient of the last update was not finite.
        """
        every = self._evaluate_every
        due = done in (0, self._steps) or (every and done % every == 0)
        if self._evaluate is None or not due:
            return
        self._write_down()
        found = self._evaluate(context_of(state, done, self._steps, Draw.EVALUATE))
        if self._run is not None and found:
            values = {name: float(value) for name, value in jax.device_get(dict(found)).items()}
            self._run.log(done, values, self._evaluations)

    def updated(self, done: int, state: TrainState, metrics: Mapping[str, Any]) -> None:
        """Records an update, saves if it is time to, stops if asked to.

        Metrics are read one update late, so that the device works on an update while
        the last one is written down.

        Raises:
            InputError: if the loss or the gradient was not finite.
            SystemExit: 143 after SIGTERM, 130 after Ctrl-C; the state is saved.
        """
        self._write_down()
        self._pending = (done, metrics)
        stop = self._interruption.requested()
        if stop or done % self._save_every == 0 or done == self._steps:
            self._write_down()
            if self._checkpoints is not None:
                self._checkpoints.save(state, self._batches.get_state())
        if stop:
            self._exit(done)

    def stop_before_update(self, done: int, state: TrainState) -> None:
        """Stops, if asked to, with the state as it was before the batch in hand was drawn.

        Raises:
            SystemExit: as `updated`.
        """
        if self._interruption.signum is None:
            return
        self._write_down()
        if self._checkpoints is not None:
            self._checkpoints.save(state, self._position)
        self._exit(done)

    def _exit(self, done: int) -> None:
        saved = ""
        if self._checkpoints is not None:
            self._checkpoints.wait()
            saved = ", saved; the same command goes on from there"
        print(f"{self._stage}: stopped after update {done}{saved}", file=sys.stderr, flush=True)
        raise SystemExit(128 + (self._interruption.signum or 0))

    def _write_down(self) -> None:
        """Writes the metrics of the last update, having checked them."""
        if self._pending is None:
            return
        done, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                cause = (
                    "the data or the first parameters hold a number that is not finite"
                    if done == 1
                    else "the learning rate is too high, or gradients need clipping"
                )
                raise InputError(
                    f"{self._stage}: {name} is {values[name]} in update {done}; probably {cause};"
                    " earlier checkpoints are kept"
                )
        self._advance(done, values)
        if self._run is not None:
            self._run.log(done, values, self._stage)


@contextmanager
def loop_record(
    state: TrainState,
    batches: Iterator[PyTree],
    *,
    steps: int,
    evaluate: Evaluation | None,
    evaluate_every: int,
    run: RunDirectory | None,
    checkpoints: Checkpointer | None,
    save_every: int,
    progress: Progress | None,
    stage: str,
) -> Iterator[LoopRecord]:
    """Opens the record of a loop; on leaving, the checkpoint being written is whole.

    Raises:
        InputError: if the checkpoint does not belong to this run, or the data cannot be
            put back to a place.
    """
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptible())
        record = LoopRecord(
            state,
            batches,
            steps=steps,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            run=run,
            checkpoints=checkpoints,
            save_every=save_every,
            stage=stage,
            interruption=interruption,
        )
        if checkpoints is not None:
            stack.callback(checkpoints.wait)
        record.show(stack.enter_context(Progress()) if progress is None else progress)
        yield record
