import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.train.checkpoint import Checkpointer, load_params
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError
from tests.train.cases import (
    TX,
    assert_close,
    assert_same_bits,
    demonstrations,
    new_state,
    objective,
)

ADAM = optax.adam(0.1)


def small(step=0, seed=0):
    state = init_state({"w": jnp.arange(6.0)}, ADAM, jax.random.key(seed))
    return state.replace(step=jnp.int32(step))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


def test_everything_comes_back(directory):
    state = small(seed=7).replace(
        params={"w": jax.random.normal(jax.random.key(3), (6,))}, step=jnp.int32(12)
    )
    position = {"index": 5, "rng": {"state": 2**100, "name": "PCG64"}, "parts": [{"at": 1}]}
    with Checkpointer(directory, {"lr": 0.1}) as checkpoints:
        assert checkpoints.restore(small()) is None
        checkpoints.save(state, position)
    with Checkpointer(directory, {"lr": 0.1}) as checkpoints:
        restored, data = checkpoints.restore(small())
    assert_same_bits(restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert data == position


def test_positions_may_be_bytes(directory):
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(small(), b"\x00\xff")
        checkpoints.wait()
        assert checkpoints.restore(small())[1] == b"\x00\xff"


def test_the_state_may_be_donated_while_it_is_written(directory):
    change = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    params = {"w": jax.random.normal(jax.random.key(0), (1_000_000,))}
    state = init_state(params, optax.sgd(0.1), jax.random.key(0))
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(state, {})
        params_now = state.params
        for _ in range(5):
            params_now = change(params_now)
        jax.block_until_ready(params_now)
        checkpoints.wait()
        template = init_state(params, optax.sgd(0.1), jax.random.key(0))
        assert_same_bits(checkpoints.restore(template)[0].params, params)


def test_the_last_few_are_kept(directory):
    with Checkpointer(directory, {}, keep=2) as checkpoints:
        for step in (1, 3, 3, 7):
            checkpoints.save(small(step), {"at": step})
        checkpoints.wait()
        assert checkpoints.latest_step() == 7
        assert checkpoints.restore(small())[1] == {"at": 7}
    assert sorted(p.name for p in directory.iterdir()) == ["3", "7"]


def test_parameters_alone_are_read_without_a_template(directory):
    with pytest.raises(InputError, match="holds no checkpoint; give a run that has written one"):
        load_params(directory)
    with Checkpointer(directory, {}) as checkpoints:
        for step in (9, 10):
            checkpoints.save(small(step).replace(params={"a": {"w": jnp.full(3, step)}}), {})
    before = sorted(directory.rglob("*"))
    params = load_params(directory)
    assert isinstance(params["a"]["w"], np.ndarray)
    np.testing.assert_array_equal(params["a"]["w"], [10, 10, 10])
    assert sorted(directory.rglob("*")) == before


def test_another_config_or_model_is_refused_and_named(directory):
    with Checkpointer(directory, {"lr": 0.1, "model": {"d": 4}}) as checkpoints:
        checkpoints.save(small(), {})
    with (
        Checkpointer(directory, {"lr": 0.2, "model": {"d": 4}}) as checkpoints,
        pytest.raises(InputError, match=r"checkpoints/0: .*\(lr was 0.1, is 0.2\).*same flags"),
    ):
        checkpoints.restore(small())
    with Checkpointer(directory, {"lr": 0.1, "model": {"d": 4}}) as checkpoints:
        wide = init_state({"w": jnp.arange(7.0)}, ADAM, jax.random.key(0))
        with pytest.raises(InputError, match=r"opt_state/0/mu/w was .float32\[6\].*float32\[7\]"):
            checkpoints.restore(wide)
        sgd = init_state({"w": jnp.arange(6.0)}, optax.sgd(0.1), jax.random.key(0))
        with pytest.raises(InputError, match=r"opt_state/0/count was .*, is absent and 2 more"):
            checkpoints.restore(sgd)
    with pytest.raises(InputError, match="keep: expected at least 1"):
        Checkpointer(directory, {}, keep=0)


def test_half_written_checkpoints_are_not_picked_up(directory):
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(small(4), {"at": 4})
    half = directory / "9.orbax-checkpoint-tmp"
    shutil.copytree(directory / "4", half)
    (half / "commit_success.txt").unlink()
    with Checkpointer(directory, {}) as checkpoints:
        assert checkpoints.latest_step() == 4
        assert checkpoints.restore(small())[1] == {"at": 4}
        checkpoints.save(small(6), {"at": 6})
    assert sorted(p.name for p in directory.iterdir()) == ["4", "6"]


FULL = """
import resource
import signal
import sys
import jax
import jax.numpy as jnp
import optax
from irl_jax.train.checkpoint import Checkpointer, load_params
from irl_jax.train.state import init_state
from irl_jax.types import InputError
jax.config.update("jax_enable_compilation_cache", False)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
state = init_state({"w": jax.random.normal(jax.random.key(0), (100_000,))}, optax.sgd(0.1),
                   jax.random.key(0))
try:
    with Checkpointer(sys.argv[1], {}) as checkpoints:
        checkpoints.save(state.replace(step=jnp.int32(5)), {})
        checkpoints.wait()
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def test_a_write_that_fails_is_one_line_and_leaves_nothing(directory):
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(small(4), {"at": 4})
    done = subprocess.run(
        [sys.executable, "-c", FULL, directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot write a checkpoint: File too large; make room" in last
    assert "orbax" not in done.stderr  # its own account of it
    assert [p.name for p in directory.iterdir()] == ["4"]


def test_no_room_is_noticed_before_writing(directory, monkeypatch):
    with Checkpointer(directory, {}) as checkpoints:
        usage = shutil.disk_usage(directory)._replace(free=87)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(InputError, match="a checkpoint needs 0 MB, 0 MB are free; make room"):
            checkpoints.save(small(), {})
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=88))
        checkpoints.save(small(), {})  # 3 x 6 f32, the step, the count, the key
    assert [p.name for p in directory.iterdir()] == ["0"]


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        Checkpointer(tmp_path / "file" / "checkpoints", {})


def test_eight_devices_write_what_one_and_four_read(directory):
    step_of = lambda mesh, state: jit_step(make_train_step(objective, TX), mesh, state, RULES)
    eight = make_mesh(4, 2, 1)
    state = place(eight, new_state(), RULES)
    state, _ = step_of(eight, state)(state, demonstrations())
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(state, {"at": 1})
        checkpoints.wait()
        written = jax.device_get((state.params, state.opt_state))
        after = jax.device_get(step_of(eight, state)(state, demonstrations(seed=1))[0].params)
        for sizes in ((1, 1, 1), (1, 2, 2)):
            mesh = make_mesh(*sizes)
            template = place(mesh, new_state(seed=5), RULES)
            read, _ = checkpoints.restore(template)
            assert_same_bits(jax.device_get((read.params, read.opt_state)), written)
            places = lambda tree: jax.tree.map(lambda x: x.sharding, tree)
            assert places(read) == places(template)
            if mesh.devices.size == 1:
                again, _ = step_of(mesh, read)(read, demonstrations(seed=1))
                assert_close(jax.device_get(again.params), after)


def test_data_of_other_processes_is_refused_unless_it_is_the_same(directory, monkeypatch):
    from irl_jax.train import checkpoint

    def save(checkpoints, step, rows):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "_gather", lambda text: rows)
            checkpoints.save(small(step), {})

    with Checkpointer(directory, {}) as checkpoints:
        save(checkpoints, 1, ['{"json": {"at": 1}}'] * 2)
        assert checkpoints.restore(small())[1] == {"at": 1}
        save(checkpoints, 2, ['{"json": 1}', '{"json": 2}'])
        with pytest.raises(InputError, match=r"written by 2 processes.*start 2 processes"):
            checkpoints.restore(small())


def test_numpy_positions_are_plain(directory):
    with Checkpointer(directory, {}) as checkpoints:
        checkpoints.save(small(), {"at": np.int64(3), "order": np.arange(2)})
        checkpoints.wait()
        assert checkpoints.restore(small())[1] == {"at": 3, "order": [0, 1]}
