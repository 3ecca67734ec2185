"""A tiny run of either loop, as a program: what the tests kill and start again.

    python -m tests.train.toy fit|improve DIRECTORY [--pause SECONDS] [--steps N] [--rate X]
        [--kill STEP SECONDS] [--process I --port PORT]

`--kill` ends the process with SIGKILL that long after it begins the update. It writes
the final parameters to DIRECTORY/final.npz. With `--process` it is one of two processes,
each with its own data.
"""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax.models.mesh import make_mesh
from irl_jax.rewards.contract import of_group
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.offline import train_offline
from irl_jax.train.online import train_online
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import Group, InputError, Loss

STEPS, SAVE_EVERY, ARMS, K, B = 60, 4, 5, 4, 8


class Stream:
    """Endless random batches; the generator's state is the position."""

    def __init__(self, draw, seed=0):
        self._draw, self._rng = draw, np.random.default_rng(seed)

    def __iter__(self):
        return self

    def __next__(self):
        return self._draw(self._rng)

    def get_state(self):
        return self._rng.bit_generator.state

    def set_state(self, state):
        self._rng.bit_generator.state = state


def regression(rng):
    x = rng.normal(size=(B, 3)).astype(np.float32)
    return {"x": x, "y": np.sin(x.sum(1)).astype(np.float32)}


def squared_error(params, batch, key):
    """With dropout of inputs, so that the key matters."""
    keep = jax.random.bernoulli(key, 0.8, batch["x"].shape)
    hidden = jnp.tanh(jnp.where(keep, batch["x"], 0.0) @ params["a"])
    error = hidden @ params["b"] - batch["y"]
    return Loss(jnp.sum(error**2), jnp.float32(error.size), {})


def contexts(rng):
    return rng.integers(0, ARMS, B).astype(np.int32)


@jax.jit
def rollout(params, contexts, key):
    """K one-token completions of each context under a table of logits."""
    logits = params["logits"][contexts]
    action = jax.random.categorical(key, logits[:, None], shape=(contexts.shape[0], K))
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits)[:, None], action[..., None], 2)
    ones = jnp.ones(action.shape, bool)
    zeros = jnp.zeros(action.shape)
    return Group(contexts, action[..., None], ones[..., None], logp, zeros, ones)


def reward(group):
    """1 for the arm that bears the context's number."""
    return (np.asarray(group.action)[..., 0] == np.asarray(group.context)[:, None]).astype(
        np.float32
    )


judged = of_group(reward)


def reinforce(params, group, key):
    del key
    logp = jax.nn.log_softmax(params["logits"])[group.context[:, None], group.action[..., 0]]
    advantage = group.reward - group.reward.mean(1, keepdims=True)
    return Loss(-jnp.sum(advantage * logp), jnp.float32(logp.size), {})


def build(kind, rate=0.05, devices=1, epochs=0):
    """The jitted step, the first state and the data of a loop.

    With epochs, a step makes two updates in each of them.
    """
    objective = {"fit": squared_error, "improve": reinforce}[kind]
    if kind == "fit":
        a, b = np.random.default_rng(1).normal(size=(2, 3, 16)).astype(np.float32)
        params = {"a": jnp.asarray(a), "b": jnp.asarray(b[0])}
    else:
        params = {"logits": jnp.zeros((ARMS, ARMS))}
    tx, mesh = optax.adam(rate), make_mesh(devices)
    state = place(mesh, init_state(params, tx, jax.random.key(2)))
    step = make_train_step(objective, tx)
    if epochs:
        step = minibatch_epochs(step, epochs=epochs, minibatches=2)
    step = jit_step(step, mesh, state)
    return step, state, Stream(regression if kind == "fit" else contexts, jax.process_index())


def train(kind, step, state, data, **options):
    """The loop of that kind."""
    if kind == "fit":
        return train_offline(step, state, data, **options)
    return train_online(step, state, data, rollout=rollout, reward=judged, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("fit", "improve"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--kill", type=float, nargs=2)
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{options.port}", 2, options.process)
    step, state, data = build(options.kind, options.rate, devices=-1)

    def slow_step(state, batch):
        if options.kill and int(state.step) + 1 == options.kill[0]:
            threading.Timer(options.kill[1], os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(options.pause)
        return step(state, batch)

    config = {"kind": options.kind, "rate": options.rate, "steps": options.steps}
    with (
        RunDirectory(options.directory, config) as run,
        Checkpointer(run.checkpoints, config) as checkpoints,
    ):
        state = train(
            options.kind,
            slow_step,
            state,
            data,
            steps=options.steps,
            run=run,
            checkpoints=checkpoints,
            save_every=SAVE_EVERY,
        )
        if jax.process_index() == 0:
            np.savez(options.directory / "final.npz", **jax.device_get(state.params))
        run.finish({"steps": int(state.step)})


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
