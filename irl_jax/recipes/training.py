"""What a loss by its name needs: a launch, model and data, training on data, held-out losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from irl_jax.data.feeds import Feed, make_feed
from irl_jax.data.kinds import KINDS
from irl_jax.files import writing
from irl_jax.losses.table import Published, Trains
from irl_jax.models.mesh import global_batch, parameter_shardings, put
from irl_jax.models.sharding import RULES
from irl_jax.recipes.examples import Examples, check_kind, encode, read_file, read_records
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import given_model, launch_prepared, settings_of
from irl_jax.recipes.options import digest, find_loss, reader_options
from irl_jax.recipes.policy_training import Training, begin, check_batches
from irl_jax.recipes.run_config import Learning, Settings
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import LanguageModel, Session, chunks
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.methods import SAMPLING
from irl_jax.train.offline import train_offline
from irl_jax.train.progress import Progress
from irl_jax.train.run import SHA256, RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, Loss, Objective, PyTree

ELSEWHERE = ("run_dir", "mesh", "track")  # fields that may change between the launches of a run
Ready = TypeVar("Ready")


@dataclass(frozen=True)
class Schedule:
    """How often and how fast something is updated.

    Attributes:
        steps: updates.
        lr: peak learning rate of Adam, with 10 % warm-up and cosine decay to 0.
    """

    steps: int
    lr: float


def launch_loss(
    config: Any,
    trains: Trains,
    prepare: Callable[[Any, Published, str, Progress], Ready],
    experiment: Callable[[Any, Ready, RunDirectory, Progress], dict[str, Any]],
    conclusion: Callable[[dict[str, Any]], str],
    digests: Mapping[str, str] | None = None,
) -> None:
    """Runs a command whose loss has a name: goes on with its run, or reports what is there.

    Args:
        config: `AlignConfig` or another with its fields; it lies in runs/LOSS by default.
        trains: what the command trains.
        prepare: (config, row of the loss, SHA-256 of the data, progress) reads and checks.
        experiment: does the work, see `launch_prepared`.
        conclusion: the closing lines in the terminal, from the summary.
        digests: flag -> SHA-256 of other inputs, which must stay the same.

    Raises:
        InputError: the loss trains something else, or whatever there is to fix in the inputs.
    """
    row = find_trained(config, trains)
    place = config.run_dir or Path("runs") / config.loss.rpartition(":")[2]
    config = replace(config, run_dir=place)
    launch_losses(
        config, (config,), partial(prepare, config, row), partial(experiment, config), conclusion,
        digests,
    )  # fmt: skip


COMMANDS: Mapping[Trains, str] = {"policy": "align", "reward": "reward", "both": "irl"}


def find_trained(config: Learning, trains: Trains) -> Published:
    """The row of a loss.

    Raises:
        InputError: there is no such loss, or it trains something else.
    """
    row = find_loss(config.loss)
    if row.trains != trains:
        what = "a policy and its reward" if row.trains == "both" else f"a {row.trains}"
        raise InputError(
            f"{config.GROUP}loss: {config.loss} trains {what}; give it to irl-jax "
            f"{COMMANDS[row.trains]} --loss {config.loss}"
        )
    return row


def launch_losses(
    config: Settings,
    stages: Sequence[Learning],
    prepare: Callable[[str, Progress], Ready],
    experiment: Callable[[Ready, RunDirectory, Progress], dict[str, Any]],
    conclusion: Callable[[dict[str, Any]], str],
    digests: Mapping[str, str] | None = None,
) -> None:
    """Runs what learns losses by their names: goes on with its run, or reports what is there.

    Args:
        config: of the run, with its directory.
        stages: how each loss is learned.
        prepare: (SHA-256 of the data, progress) reads and checks.
        experiment: does the work, see `launch_prepared`.
        conclusion: the closing lines in the terminal, from the summary.
        digests: flag -> SHA-256 of other inputs, which must stay the same.

    Raises:
        InputError: whatever there is to fix in the inputs.
    """
    assert config.run_dir is not None
    inputs = {
        "data.path": config.data.file,
        "model": given_model(config.model),
        "tokenizer": config.tokenizer,
    }
    settings = settings_of(config, inputs, ELSEWHERE)
    settings[SHA256] |= digests or {}
    for own in stages:
        if ":" in own.loss:
            flag = f"{own.GROUP}loss"
            settings[SHA256][flag] = digest(own.loss, flag)
    launch_prepared(
        config.run_dir,
        settings,
        partial(prepare, settings[SHA256]["data.path"]),
        experiment,
        conclusion,
        track=config.track,
    )


@dataclass(frozen=True)
class Opened:
    """A model and the examples that were read for it.

    Attributes:
        model: where its files left it.
        mesh: the devices.
        examples: as its token ids.
    """

    model: LanguageModel
    mesh: Mesh
    examples: Examples

    def training(
        self,
        config: Settings,
        *,
        width: int,
        new_tokens: int = 1,
        sampling: Sampling = SAMPLING,
        train: Literal["lora", "full"] = "lora",
    ) -> Training:
        """The model on its mesh, as `config` trains it.

        Args:
            config: of the run.
            width: tokens to which prompts are padded.
            new_tokens: tokens of a sampled completion, at most.
            sampling: how completions are drawn.
            train: a LoRA, or every weight.
        """
        shape = replace(
            self.model.config, remat=config.remat, attention_chunk=config.attention_chunk
        )
        model = replace(self.model, config=shape)
        session = Session.create(
            model, self.mesh, prompt_width=width, max_new_tokens=new_tokens, sampling=sampling
        )
        if train == "lora":
            config.lora.check(model.params)
        return Training(
            session,
            config.lora,
            seed=config.seed,
            accumulate=config.accumulate,
            save_every=config.save_every,
            train=train,
        )


def open_model(
    config: Settings,
    row: Published,
    stages: Sequence[Learning],
    progress: Progress,
    *,
    sha256: str,
) -> Opened:
    """Reads the data that losses learn from, and the model.

    Args:
        config: of the run, with its directory.
        row: of the loss whose kind of data is read.
        stages: how each loss is learned.
        progress: shows how long a tiny model takes to make.
        sha256: of the data's content.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    assert config.run_dir is not None
    mesh = config.mesh.make()
    check_batches(
        {f"{own.GROUP}batch_size": own.batch_size for own in stages},
        {"evaluation.batch_size": config.evaluation.batch_size},
        accumulate=config.accumulate,
        ways=mesh.shape["data"] * mesh.shape["fsdp"],
    )
    kind, reader = KINDS[row.kind], reader_options(row)
    for own in stages:
        if own.margin and kind.name != "pairs":
            raise InputError(f"{own.GROUP}margin: {kind.name} have none; leave it out")
        check_kind(config.data, kind, f"--{own.GROUP}loss {own.loss}")
    margins = {f"{own.GROUP}margin": own.margin for own in stages}
    read, equal = read_file(config.data, kind, margins, **reader)
    with writing(config.run_dir):
        model = load_language_model(
            config.model, config.run_dir, seed=config.seed, dtype=config.dtype, progress=progress,
            tokenizer=config.tokenizer, mesh=mesh,
        )  # fmt: skip
    records = read_records(
        config.data, kind, model.tokenizer, config.run_dir / "data",
        seed=config.seed, records=read, sha256=sha256, **reader,
    )  # fmt: skip
    return Opened(model, mesh, encode(config.data, kind, model, *records, equal=equal))


def with_margins(examples: Examples, factor: float) -> Examples:
    """The examples, the margins of pairs times a factor."""
    if examples.kind.name != "pairs":
        return examples
    scaled = lambda side: [replace(x, margin=factor * x.margin) for x in side]
    return replace(examples, train=scaled(examples.train), held_out=scaled(examples.held_out))


def counts(examples: Examples) -> dict[str, Any]:
    """What a summary says of the examples."""
    return {
        "kind": examples.kind.name,
        "examples": len(examples.train),
        "held_out_examples": len(examples.held_out),
        "held_out_prompts": len(examples.held_out_prompts),
        "left_out": {why: count for why, count in examples.left_out.items() if count},
    }


def policy_start(training: Training, key: Array) -> PyTree:
    """What is trained of a policy: a LoRA that changes nothing yet, or a copy of every weight."""
    if training.train == "lora":
        return training.lora.init(key, training.session.model.params)
    return jax.tree.map(jnp.copy, training.session.model.params)


def data_feed(training: Training, examples: Examples, batch_size: int) -> Feed[Any]:
    """Batches of the examples to learn from, epoch after epoch."""
    return make_feed(
        examples.train,
        partial(examples.kind.collate, pad_id=training.session.model.tokenizer.pad_id),
        batch_size=batch_size,
        shapes=examples.shapes,
        seed=training.seed,
    )


def check_traces(
    training: Training, examples: Examples, objective: Objective, params: PyTree, batch_size: int
) -> None:
    """Traces an objective on a batch of the data, so that it raises before any work is done.

    Args:
        training: session.
        examples: of the data.
        objective: what is trained by.
        params: shapes of what is trained.
        batch_size: rows of the batch.

    Raises:
        InputError: a hyper-parameter is out of its range, a loss refuses the batch, or returns
            something else.
    """
    model = training.session.model
    rows = [*examples.train[:1], *[None] * (batch_size - 1)]
    batch = examples.kind.collate(rows, examples.shapes[-1], pad_id=model.tokenizer.pad_id)
    found = jax.eval_shape(objective, params, batch, jax.random.key(0), model.params)
    if not isinstance(found, Loss):
        shape = getattr(found, "shape", None)
        what = f"a {type(found).__name__}" if shape is None else f"an array of shape {list(shape)}"
        raise InputError(
            f"loss: it returned {what}; expected irl_jax.types.Loss (a sum, its weight, metrics), "
            "as irl_jax.losses.pairwise makes it"
        )


def fit(
    training: Training,
    feed: Feed[Any],
    objective: Objective,
    params: PyTree,
    key: Array,
    schedule: Schedule,
    run: RunDirectory,
    progress: Progress,
    stage: str,
    *,
    members: int = 1,
) -> TrainState:
    """Trains on batches of data, from the latest checkpoint on.

    Args:
        training: session, micro-batches.
        feed: the batches.
        objective: of one member.
        params: what is trained; of several members on a leading axis.
        key: of the state.
        schedule: of the updates.
        run: takes metrics and checkpoints.
        progress: shows the loop.
        stage: name of the stage, and of its directory of checkpoints.
        members: trained side by side.
    """
    frozen = (training.session.model.params,)
    step, state = begin(
        training, objective, params, key,
        lr=schedule.lr, steps=schedule.steps, members=members, frozen=frozen,
    )  # fmt: skip
    with closing(feed), Checkpointer(run.checkpoints / stage, run.config) as checkpoints:
        return train_offline(
            step,
            state,
            feed,
            steps=schedule.steps,
            frozen=frozen,
            run=run,
            checkpoints=checkpoints,
            save_every=training.save_every,
            progress=progress,
            stage=stage,
        )


def held_out_losses(
    training: Training,
    examples: Examples,
    objective: Objective,
    trained: Mapping[str, PyTree],
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """The loss and its metrics on the held-out examples, means over them.

    Args:
        training: session.
        examples: whose held-out side is measured.
        objective: of the loss.
        trained: name -> what is trained, at some time.
        batch_size: examples at a time.
    """
    session, model = training.session, training.session.model
    measure = jax.jit(objective)

    def means(params: PyTree) -> dict[str, float]:
        parts: list[Loss] = []
        params = put(params, parameter_shardings(session.mesh, params, RULES))  # compiled once
        for _, rows in chunks(examples.held_out, batch_size):
            batch = examples.kind.collate(rows, examples.shapes[-1], pad_id=model.tokenizer.pad_id)
            with jax.set_mesh(session.mesh):
                batch = global_batch(session.mesh, batch)
                parts.append(measure(params, batch, jax.random.key(0), model.params))
        total: Loss = jax.tree.map(lambda *x: sum(x), *parts)
        sums = {"loss": (total.total, total.weight), **total.metrics}
        return {name: float(x) / float(n) for name, (x, n) in sums.items() if float(n) > 0}

    return {name: means(params) for name, params in trained.items()}
