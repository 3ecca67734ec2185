"""The online loop on one device, on several and on two processes."""

import json

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding

from irl_jax.models.mesh import fetch, global_batch, make_mesh
from irl_jax.models.sharding import BATCH
from irl_jax.train.online import train_online
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import InputError
from tests.train.cases import assert_close
from tests.train.processes import give_processes, two_processes
from tests.train.toy import ARMS, Stream, contexts, judged, reinforce, reward, rollout

STEPS = 6


def train(mesh, directory, resample=0):
    """Parameters after a few rollouts of several updates; metrics are in the directory."""
    tx = optax.sgd(1.0, momentum=0.9)
    logits = np.random.default_rng(1).normal(size=(ARMS, ARMS)).astype(np.float32)
    state = place(mesh, init_state({"logits": logits}, tx, jax.random.key(2)))
    step = minibatch_epochs(make_train_step(reinforce, tx), epochs=2, minibatches=2)
    count, index = jax.process_count(), jax.process_index()

    def mine(rng):
        """This process's rows of the prompts that all processes draw alike."""
        rows = contexts(rng)
        return rows[index * len(rows) // count : (index + 1) * len(rows) // count]

    def judge(group, context):
        """Judged on the host, by every process for all: fetched, then put where rows lie."""
        return jax.device_put(reward(fetch(group)), NamedSharding(mesh, BATCH))

    with RunDirectory(directory, {}) as run:
        state = train_online(
            jit_step(step, mesh, state),
            state,
            Stream(mine),
            rollout=lambda params, rows, key: rollout(params, global_batch(mesh, rows), key),
            reward=judge,
            steps=STEPS,
            resample=resample,
            run=run,
        )
    return fetch(state.params)


def metrics(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in ("time", "stage")} for x in lines]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    return train(make_mesh(1), directory), metrics(directory)


def check(actual, expected):
    """The same completions, hence the same rewards; the rest but for the order of sums."""
    assert_close(actual[0], expected[0])
    assert len(actual[1]) == STEPS
    for row, other in zip(actual[1], expected[1], strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-7)


def test_four_devices_are_one(one_device, tmp_path):
    check((train(make_mesh(2, 2), tmp_path), metrics(tmp_path)), one_device)
    assert len({row["reward"] for row in one_device[1]}) > 1


PROCESS = """
import jax
import numpy as np
from irl_jax.models.mesh import make_mesh
from irl_jax.types import InputError
from tests.train.test_online_sharded import train
np.savez(directory / f"{jax.process_index()}.npz", **train(make_mesh(2, 2), directory / "run"))
try:
    train(make_mesh(2, 2), directory / "refused", resample=1)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_processes_are_one_device(one_device, tmp_path, monkeypatch):
    give_processes(monkeypatch, devices=2)
    for i, out in enumerate(two_processes(PROCESS, tmp_path)):
        with np.load(tmp_path / f"{i}.npz") as params:
            check((dict(params), metrics(tmp_path / "run")), one_device)
        assert "resample: every process would draw for itself" in out


def test_prompts_are_not_replaced_by_several_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"resample: every process would draw .* set it to 0"):
        train_online(None, None, iter([]), rollout=rollout, reward=judged, steps=1, resample=1)
