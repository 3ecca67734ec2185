"""The offline loop: batches of data in, updates out.

Supervised fine-tuning, reward models and direct alignment differ in the objective
of their step only.
"""

from __future__ import annotations

from collections.abc import Iterator

from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.loop import Evaluation, loop_record
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import PyTree


def train_offline(
    step: Step,
    state: TrainState,
    batches: Iterator[PyTree],
    *,
    steps: int,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 0,
    frozen: tuple[PyTree, ...] = (),
    run: RunDirectory | None = None,
    checkpoints: Checkpointer | None = None,
    save_every: int = 100,
    progress: Progress | None = None,
    stage: str = "train",
) -> TrainState:
    """Updates the state until it has seen `steps` batches, from the latest checkpoint on.

    A run that is killed and started again ends with the same bits as one that is not:
    the batches and the randomness of an update depend on what the checkpoint holds only.

    Args:
        step: `(state, batch, *frozen) -> (state, metrics)`, of
            `irl_jax.train.shard.jit_step`; donates its state.
        state: where to start if there is no checkpoint.
        batches: iterator of batches; with `checkpoints`, one with `get_state` and
            `set_state`.
        steps: number of updates in all.
        evaluate: `(context) -> {name: number}` or None, as `irl_jax.train.online.train_online`
            takes it.
        evaluate_every: updates between evaluations; 0: none but the first and the last.
        frozen: the step's further arguments.
        run: takes the metrics of every update.
        checkpoints: takes the state every `save_every` updates, at the end and when
            stopped.
        save_every: updates between checkpoints.
        progress: shared by the stages of a run; its own by default.
        stage: name in the metrics and beside the bar.

    Returns:
        The state after `steps` updates.

    Raises:
        InputError: if the loss or gradient is not finite, the data ends early, or the
            checkpoint belongs to another configuration.
        SystemExit: after SIGTERM (143) or Ctrl-C (130), with the state saved.
    """
    with loop_record(
        state,
        batches,
        steps=steps,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        run=run,
        checkpoints=checkpoints,
        save_every=save_every,
        progress=progress,
        stage=stage,
    ) as record:
        state = record.state
        for done in range(record.start, steps):
            batch = record.next_batch(done)
            record.evaluate(done, state)
            state, metrics = step(state, batch, *frozen)
            record.updated(done + 1, state, metrics)
    record.evaluate(max(record.start, steps), state)
    return state
