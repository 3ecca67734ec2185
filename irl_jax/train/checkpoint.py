"""Checkpoints: everything a run needs to go on with the same bits.

Orbax writes in the background into a temporary directory and renames it, so a
checkpoint is whole or absent; what harms its files later is found by their digests, and
the newest checkpoint that is sound is taken. Arrays are read straight into the layout that
the new run asks for: eight devices may write what one or four read.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from irl_jax.files import as_json, writing
from irl_jax.train.run import check_same_config, differences
from irl_jax.train.seal import newest_sound, seal
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, PyTree

DataState = dict[str, Any] | bytes


class Checkpointer:
    """The last few states of a run in a directory; a context manager.

    A checkpoint holds the `TrainState` (with the key's data), the state of each
    process's data iterator and the configuration.
    """

    def __init__(self, directory: str | os.PathLike, config: Any, *, keep: int = 2):
        """Opens the directory and clears what a killed writer left half-written.

        Args:
            directory: created if absent.
            config: frozen dataclass or mapping of plain values, as given to
                `RunDirectory`.
            keep: how many of the latest checkpoints to keep.

        Raises:
            InputError: if `keep` is not positive or the directory cannot be made.
        """
        if keep < 1:
            raise InputError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.directory = Path(directory).absolute()
        self._config = as_json(config)
        self._saving: int | None = None  # step of the checkpoint being written
        with writing(self.directory):
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=ocp.checkpoint_managers.LatestN(keep),
                    cleanup_tmp_directories=True,
                    enable_async_checkpointing=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                ),
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "data": ocp.JsonCheckpointHandler(),
                    "config": ocp.JsonCheckpointHandler(),
                },
            )

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """Number of updates in the latest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data_state: DataState) -> None:
        """Starts writing a checkpoint; the state may be donated at once.

        A step that is there already is not written again.

        Args:
            state: arrays on any mesh.
            data_state: what this process's data iterator's `get_state` returned:
                plain JSON values, or bytes.

        Raises:
            InputError: if this or the previous checkpoint cannot be written.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        data = [json.loads(text) for text in _gather(json.dumps(_encode(data_state)))]
        plain = _plain(state)
        with self._writing():
            self._check_room(plain)
            self._manager.wait_until_finished()
            self._saving = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(plain),
                    data=ocp.args.JsonSave({"processes": data}),
                    config=ocp.args.JsonSave({"config": self._config}),
                ),
                force=True,
            )

    def restore(self, template: TrainState) -> tuple[TrainState, DataState] | None:
        """Reads the latest checkpoint that is sound; later ones are told of and put aside.

        Args:
            template: a state of the same shapes that lies where the result shall
                lie (`irl_jax.train.shard.place`).

        Returns:
            The state and this process's data state; None if there is no checkpoint.

        Raises:
            InputError: if every checkpoint is damaged, or the latest sound one belongs to
                another configuration, holds arrays of other shapes, or was written by
                another number of processes whose data states cannot be shared out.
        """
        step = self._sound_step()
        if step is None:
            return None
        place = self.directory / str(step)
        plain = self._manager.restore(
            step,
            args=ocp.args.Composite(data=ocp.args.JsonRestore(), config=ocp.args.JsonRestore()),
        )
        check_same_config(place, plain["config"]["config"], self._config)
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _plain(template)
        )
        _check_arrays(place, self._manager.item_metadata(step)["state"].tree, target)
        saved = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )["state"]
        key = jax.random.wrap_key_data(saved.pop("key"), impl=jax.random.key_impl(template.key))
        return TrainState(**saved, key=key), _mine(place, plain["data"]["processes"])

    def _sound_step(self) -> int | None:
        """The latest sound checkpoint, the same for every process; later ones are put aside."""
        self.wait()
        if self.latest_step() is None:
            return None
        found: tuple[int | None, dict[int, str]] = (None, {})
        if jax.process_index() == 0:
            found = newest_sound(self.directory, self._manager.all_steps())
            if found[0] is not None:
                _put_aside(self.directory, *found)
        step, damaged = json.loads(_gather(json.dumps(found))[0])
        if step is None:
            raise _none_sound(self.directory, damaged)
        if damaged:
            self._manager.reload()
        return step

    def _seal(self) -> None:
        """Seals the checkpoint being written, before it gets its name."""
        if jax.process_index() == 0:
            temporary = self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            seal(next(temporary, self.directory / str(self._saving)))

    def wait(self) -> None:
        """Returns when the checkpoint being written is whole.

        Raises:
            InputError: if it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        with self._writing():
            self._manager.close()

    def _check_room(self, tree: PyTree) -> None:
        """Refuses to begin a checkpoint that does not fit on the disk."""
        shards = (shard for x in jax.tree.leaves(tree) for shard in x.addressable_shards)
        needed = sum(shard.data.nbytes for shard in shards if shard.replica_id == 0)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise InputError(
                f"{self.directory}: a checkpoint needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB"
                " are free; make room or choose another run directory"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a failed write into one line, and removes what it left."""
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError) as error:
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None and not isinstance(error, OSError):
                raise
            reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", error)
            if jax.process_index() == 0:
                for part in self.directory.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(part, ignore_errors=True)
            raise InputError(
                f"{self.directory}: cannot write a checkpoint: {reason};"
                " make room or choose another run directory"
            ) from error


def load_params(directory: str | os.PathLike) -> PyTree:
    """The parameters in the latest sound checkpoint, to be used and not trained.

    Only reads, so that it may be done while the run goes on. A later checkpoint that is
    damaged is told of on stderr.

    Args:
        directory: of a `Checkpointer`.

    Returns:
        Nested dicts of NumPy arrays.

    Raises:
        InputError: if there is no checkpoint, or every one is damaged.
    """
    path = Path(directory).absolute()
    steps = [int(p.name) for p in path.glob("*") if p.name.isdigit()]
    if not steps:
        raise InputError(f"{directory}: holds no checkpoint; give a run that has written one")
    step, damaged = newest_sound(path, steps)
    if step is None:
        raise _none_sound(path, damaged)
    for number, reason in damaged.items():
        _tell(f"{path / str(number)}: damaged checkpoint ({reason}); taking update {step} instead")
    place = path / str(step) / "state"
    handler = ocp.PyTreeCheckpointHandler()
    item = {"params": handler.metadata(place).tree["params"]}
    whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    args = ocp.args.PyTreeRestore(item=item, restore_args=whole, partial_restore=True)
    return handler.restore(place, args=args)["params"]


def _none_sound(directory: Path, damaged: dict[Any, str]) -> InputError:
    each = "; ".join(f"update {step}: {reason}" for step, reason in damaged.items())
    return InputError(
        f"{directory}: no checkpoint is sound ({each}); restore one from a copy, or remove the "
        "directory to begin this stage again"
    )


def _put_aside(directory: Path, step: int | None, damaged: dict[int, str]) -> None:
    """Renames damaged checkpoints, so that theirs can be written again, and says so."""
    for number, reason in damaged.items():
        place = directory / str(number)
        aside = place.with_name(f"{number}.damaged")
        with writing(aside):
            shutil.rmtree(aside, ignore_errors=True)
            place.rename(aside)
        _tell(
            f"{place}: damaged checkpoint ({reason}), put aside as {aside.name}; "
            f"going on from update {step}"
        )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _plain(state: TrainState) -> dict[str, PyTree]:
    """The state as a dict of ordinary arrays."""
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": jax.random.key_data(state.key),
    }


def _check_arrays(place: Path, saved: PyTree, target: PyTree) -> None:
    """Raises `InputError` naming the first array that differs in shape or dtype."""

    def arrays(tree: PyTree) -> dict[str, str]:
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): (
                f"{np.dtype(x.dtype).name}{list(x.shape)}"
            )
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        }

    changed = differences(arrays(saved), arrays(target))
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{place}: holds another model or optimizer ({changed[0]}{more});"
            " choose another run directory"
        )


def _encode(data_state: DataState) -> dict[str, Any]:
    if isinstance(data_state, bytes):
        return {"base64": base64.b64encode(data_state).decode()}
    return {"json": as_json(data_state)}


def _decode(encoded: dict[str, Any]) -> DataState:
    if "base64" in encoded:
        return base64.b64decode(encoded["base64"])
    return encoded["json"]


def _gather(text: str) -> list[str]:
    """Every process's text, in the order of the processes."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def _mine(place: Path, states: list[dict[str, Any]]) -> DataState:
    """Of the saved data states, the one of this process."""
    if len(states) == jax.process_count():
        return _decode(states[jax.process_index()])
    if any(state != states[0] for state in states):
        raise InputError(
            f"{place}: written by {len(states)} processes at different places of their data,"
            f" which cannot be shared out to {jax.process_count()}; start {len(states)} processes"
        )
    return _decode(states[0])


class _OnlyOnce(logging.Filter):
    """Drops Orbax's own account of a failed write: it reaches the user as `InputError`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.levelno == logging.ERROR and "orbax" in Path(record.pathname).parts)


logging.getLogger("absl").addFilter(_OnlyOnce())
