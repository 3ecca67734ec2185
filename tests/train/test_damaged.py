"""Checkpoints whose files are gone, cut, empty or changed: the newest sound one is taken."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from irl_jax.train.checkpoint import Checkpointer, load_params
from irl_jax.train.run import RunDirectory
from irl_jax.train.seal import SEAL, damage
from irl_jax.train.state import init_state
from irl_jax.types import InputError
from tests.train import toy
from tests.train.cases import assert_same_bits
from tests.train.faults import FAULTS, flip

ADAM = optax.adam(0.1)


def new_state(step: int):
    params = {"a": {"w": jax.random.normal(jax.random.key(step), (40, 50))}, "b": jnp.arange(6.0)}
    return init_state(params, ADAM, jax.random.key(1)).replace(step=jnp.int32(step))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Checkpoints of updates 4 and 6."""
    directory = tmp_path_factory.mktemp("checkpoints")
    with Checkpointer(directory, {"lr": 0.1}) as checkpoints:
        for step in (4, 6):
            checkpoints.save(new_state(step), {"at": step})
    return directory


def files_of(checkpoint: Path) -> list[Path]:
    """Each file, and each directory that Orbax would look into."""
    return sorted(p.relative_to(checkpoint) for p in checkpoint.rglob("*") if p.is_file())


@pytest.mark.parametrize("fault", FAULTS)
def test_same_bits_or_the_checkpoint_before(fault, whole, tmp_path, capsys):
    """Every file of the newest checkpoint, harmed in turn; no other bits, no traceback."""
    fell_back = 0
    for number, name in enumerate(files_of(whole / "6")):
        directory = shutil.copytree(whole, tmp_path / str(number))
        FAULTS[fault](directory / "6" / name)
        params = load_params(directory)
        said = capsys.readouterr().err
        with Checkpointer(directory, {"lr": 0.1}) as checkpoints:
            state, data = checkpoints.restore(new_state(0))
        line = capsys.readouterr().err
        step = int(state.step)
        assert_same_bits(state, new_state(step))
        assert_same_bits(params, jax.device_get(new_state(step).params))
        assert data == {"at": step}
        if step == 4:
            fell_back += 1
            assert f"{directory}/6: damaged checkpoint (" in said and "taking update 4" in said
            assert "put aside as 6.damaged; going on from update 4\n" in line
            assert sorted(p.name for p in directory.iterdir()) == ["4", "6.damaged"]
        else:
            assert step == 6 and "damaged" not in said + line
    assert fell_back > 5


def test_every_byte_of_the_arrays_counts(whole, tmp_path):
    """An array that does not compress is stored as it is, where a flip looks like a number."""
    directory = shutil.copytree(whole, tmp_path / "copy")
    largest = max((directory / "6" / "state").rglob("?" * 32), key=lambda p: p.stat().st_size)
    flip(largest)
    assert (
        damage(directory / "6") == f"{largest.relative_to(directory / '6')} is not what was written"
    )


@pytest.mark.parametrize("name", ["state", "data", "config", "."])
def test_a_directory_that_is_gone(name, whole, tmp_path):
    directory = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(directory / "6" / name)
    (directory / "6").mkdir(exist_ok=True)
    with Checkpointer(directory, {"lr": 0.1}) as checkpoints:
        assert int(checkpoints.restore(new_state(0))[0].step) == 4


def test_none_that_is_sound_is_one_line_and_nothing_is_moved(whole, tmp_path):
    directory = shutil.copytree(whole, tmp_path / "copy")
    (directory / "4" / SEAL).unlink()
    (directory / "6" / "state" / "manifest.ocdbt").write_bytes(b"")
    before = sorted(directory.rglob("*"))
    says = (
        r"^\S+/copy: no checkpoint is sound \(update 6: state/manifest\.ocdbt is not what was "
        r"written; update 4: sha256\.json: no such file or directory\); restore one from a copy, "
        r"or remove the directory to begin this stage again$"
    )
    with (
        Checkpointer(directory, {"lr": 0.1}) as checkpoints,
        pytest.raises(InputError, match=says),
    ):
        checkpoints.restore(new_state(0))
    with pytest.raises(InputError, match=says):
        load_params(directory)
    assert sorted(directory.rglob("*")) == before


def test_training_goes_on_and_writes_the_damaged_one_again(tmp_path, capsys):
    built = toy.build("fit")
    fresh = lambda: (built[0], *toy.build("fit")[1:])
    straight = toy.train("fit", *fresh(), steps=8)
    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        toy.train("fit", *fresh(), steps=6, run=run, checkpoints=checkpoints, save_every=4)
    flip(next((run.checkpoints / "6" / "state" / "ocdbt.process_0" / "d").iterdir()))
    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "save_every": 2}
        again = toy.train("fit", *fresh(), steps=6, **options)
        assert [row["step"] for row in run.metrics()] == list(range(1, 7))
        checkpoints.wait()
        assert damage(run.checkpoints / "6") is None
        assert_same_bits(checkpoints.restore(fresh()[1])[0], again)
        resumed = toy.train("fit", *fresh(), steps=8, **options)
    assert_same_bits(resumed, straight)
    assert capsys.readouterr().err.count("damaged") == 2  # one line, which has the word twice
