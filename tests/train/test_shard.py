import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from irl_jax.models.mesh import global_batch, make_mesh, sharded_vmap
from irl_jax.models.sharding import RULES
from irl_jax.train.shard import jit_step, place, shardings
from irl_jax.train.state import init_state, joined
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import InputError, Loss
from tests.train.cases import TX, assert_close, demonstrations, new_state, objective
from tests.train.compilations import count_compilations
from tests.train.processes import give_processes, two_processes

STEPS = 3


def train(mesh, accumulate=1):
    """Parameters and metrics after a few updates on a mesh."""
    state = place(mesh, new_state(), RULES)
    step = jit_step(make_train_step(objective, TX, accumulate=accumulate), mesh, state, RULES)
    for seed in range(STEPS):
        state, metrics = step(state, demonstrations(seed=seed))
    return jax.device_get((state.params, metrics))


@pytest.fixture(scope="module")
def one_device():
    return train(make_mesh(1, 1, 1, devices=jax.devices()[:1]))


def test_one_device_is_the_plain_step(one_device):
    state, step = new_state(), jax.jit(make_train_step(objective, TX))
    for seed in range(STEPS):
        state, metrics = step(state, demonstrations(seed=seed))
    assert_close(one_device, (jax.device_get(state.params), jax.device_get(metrics)))


@pytest.mark.parametrize("sizes, accumulate", [((4, 2, 1), 1), ((2, 2, 2), 2)])
def test_eight_devices_are_one_device(one_device, sizes, accumulate):
    assert_close(train(make_mesh(*sizes), accumulate), one_device)


def noisy_regression(params, batch, key):
    """Weighted, with dropout of inputs, so that rows, their weights and the key matter."""
    keep = jax.random.bernoulli(key, 0.8, batch["x"].shape)
    hidden = jnp.tanh(jnp.where(keep, batch["x"], 0.0) @ params["a"])
    error = hidden @ params["b"] - batch["y"]
    return Loss(jnp.sum(batch["w"] * error**2), jnp.sum(batch["w"]), {"x": (error.sum(), 1.0)})


def several(mesh, accumulate):
    """Parameters and metrics after two batches of 3 epochs x 2 minibatches on a mesh.

    And how the micro-batches' inputs were laid out.
    """
    layouts = []

    def objective(params, batch, key):
        jax.debug.inspect_array_sharding(batch["x"], callback=layouts.append)
        return noisy_regression(params, batch, key)

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params = {"a": draw(3, 16), "b": draw(16)}
    rules = ((r"a$", P(None, "fsdp")), (r"b$", P("fsdp")))
    state = place(mesh, init_state(params, TX, jax.random.key(1)), rules)
    step = make_train_step(objective, TX, accumulate=accumulate)
    step = jit_step(minibatch_epochs(step, epochs=3, minibatches=2), mesh, state, rules)
    for _ in range(2):
        w = rng.integers(0, 4, 32).astype(np.float32)
        state, metrics = step(state, {"x": draw(32, 3), "y": draw(32), "w": w})
    return jax.device_get((state.params, metrics)), layouts


@pytest.mark.parametrize("sizes, accumulate", [((8, 1, 1), 1), ((1, 8, 1), 2)])
def test_several_updates_on_eight_devices_are_those_on_one(sizes, accumulate):
    """Also in their share of the work, though rows are shuffled between the devices."""
    actual, layouts = several(make_mesh(*sizes), accumulate)
    assert_close(actual, several(make_mesh(1, 1, 1), accumulate)[0])
    rows = 16 // accumulate
    assert {layout.shard_shape((rows, 3)) for layout in layouts} == {(rows // 8, 3)}


def test_parameters_and_optimizer_are_cut_alike():
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adafactor(0.1, min_dim_size_to_factor=8))
    tx = optax.chain(tx, optax.adam(0.1))
    params = {
        "layers": {
            "mlp": {"up": {"kernel": jnp.zeros((2, 16, 24))}},
            "mlp_norm": {"scale": jnp.zeros((2, 16))},
        }
    }
    mesh = make_mesh(2, 2, 2)
    state = place(mesh, init_state(params, tx, jax.random.key(0)), RULES)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    seen = {name(p): x.sharding.spec for p, x in jax.tree_util.tree_leaves_with_path(state)}
    kernel = P(None, "fsdp", "tensor")
    assert seen["params/layers/mlp/up/kernel"] == kernel
    moments = [s for n, s in seen.items() if "mu/layers" in n or "nu/layers" in n]
    assert sorted(map(str, moments)) == sorted(map(str, [kernel, kernel, P(), P()]))
    factored = {n: s for n, s in seen.items() if "v_row" in n or "v_col" in n}
    assert factored and set(factored.values()) == {P()}
    assert seen["step"] == P() and seen["key"] == P()


def test_optimizers_of_steps_side_by_side_are_cut_as_their_parameters():
    mesh, own = make_mesh(2, 2, 2), new_state()
    state = joined(own.key, policy=own, critic=own)
    alone, found = shardings(mesh, own, RULES), shardings(mesh, state, RULES)
    for name in ("policy", "critic"):
        assert found.params[name] == alone.params
        assert found.opt_state[name] == alone.opt_state


def test_a_sharded_step_uses_less_memory_of_each_device():
    mesh = make_mesh(1, 8, 1)
    state = place(mesh, new_state(), RULES)
    kernel = state.params["layers"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size * 8 == kernel.size


def test_a_step_compiles_once_and_donates_its_state():
    def counted_objective(params, batch, key, shift):
        del key
        return Loss(jnp.sum((params * batch - shift) ** 2), jnp.float32(batch.size), {})

    mesh = make_mesh(4, 2, 1)
    tx = optax.adam(0.1)
    first = state = place(mesh, init_state(jnp.ones(()), tx, jax.random.key(0)))
    frozen = (place(mesh, jnp.float32(2.0)),)
    step = jit_step(make_train_step(counted_objective, tx), mesh, state, frozen=frozen)
    with count_compilations() as counts:
        for i in range(4):
            batch = np.full(8, i, np.float32)
            state, _ = step(state, batch if i % 2 else global_batch(mesh, batch), *frozen)
    assert counts["jit(step)"] == 1, counts
    assert first.params.is_deleted() and not frozen[0].is_deleted()
    with count_compilations() as counts:
        step(state, np.zeros(16, np.float32), *frozen)
    assert counts["jit(step)"] == 1, counts  # another shape: the counter does count


def test_batches_are_cut_over_data_and_fsdp():
    mesh = make_mesh(2, 2, 2)
    batch = global_batch(mesh, {"x": np.arange(16).reshape(8, 2), "y": jnp.arange(8)})
    assert batch["x"].sharding == NamedSharding(mesh, P(("data", "fsdp")))
    assert batch["y"].addressable_shards[0].data.shape == (2,)
    np.testing.assert_array_equal(batch["x"], np.arange(16).reshape(8, 2))
    with pytest.raises(InputError, match=r"batch: x of shape \[6, 2\].*multiple of 4"):
        global_batch(mesh, {"x": np.zeros((6, 2))})
    with pytest.raises(InputError, match=r"batch: k of shape \[\]"):
        global_batch(mesh, {"k": np.zeros(())})


def test_meshes_that_do_not_fit_are_named():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert dict(make_mesh(2, -1, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert make_mesh(2).devices.size == 2  # fewer than there are, because asked for
    for sizes, message in [
        ((3, 4, 1), "data=3, fsdp=4, tensor=1 is 12 devices, but there are 8"),
        ((-1, 3, 1), "3 does not divide the number of devices, 8"),
        ((-1, -1, 1), "one of them may be -1"),
        ((0, 1, 1), "sizes are positive"),
    ]:
        with pytest.raises(InputError, match=message):
            make_mesh(*sizes)


def test_array_without_a_name_is_a_tree_too():
    mesh = make_mesh(8)
    assert shardings(mesh, jnp.zeros((4, 4))).spec == P()


@pytest.mark.parametrize(("rows", "devices", "each"), [(10, 8, 2), (8, 8, 1), (7, 2, 4), (1, 8, 1)])
def test_rows_are_mapped_each_on_its_own_device(rows, devices, each):
    drawn = lambda key: jax.random.randint(key, (3,), 0, 1000)  # exact on every processor
    draw = lambda key, x: {"drawn": x["a"] * drawn(key), "twice": 2 * x["b"]}
    given = jax.random.split(jax.random.key(0), rows), {
        "a": jnp.arange(1, rows + 1), "b": np.arange(rows)
    }  # fmt: skip
    mapped = sharded_vmap(draw, devices=jax.devices()[:devices])
    found, wanted = jax.jit(mapped)(*given), jax.vmap(draw)(*given)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    if rows % each == 0:
        shards = found["drawn"].addressable_shards
        assert [shard.data.shape for shard in shards] == [(each, 3)] * (rows // each)
        assert len({shard.device for shard in shards}) == rows // each
        assert shards[-1].index[0].start in (None, rows - each)


@pytest.mark.parametrize("rows", [(np.zeros(3), np.zeros(2)), (np.zeros((0, 2)),), (np.zeros(()),)])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(InputError, match="rows: expected arrays with one leading axis"):
        sharded_vmap(lambda *x: x[0])(*rows)


PROCESS = """
import jax
import numpy as np
from irl_jax.models.sharding import RULES
from irl_jax.models.mesh import make_mesh
from irl_jax.train.shard import jit_step, place
from irl_jax.train.step import make_train_step
from tests.train.cases import TX, demonstrations, new_state, objective
mesh = make_mesh(2, 2, 2)
state = place(mesh, new_state(), RULES)
step = jit_step(make_train_step(objective, TX), mesh, state, RULES)
mine = slice(8 * jax.process_index(), 8 * jax.process_index() + 8)
for seed in range(3):
    batch = jax.tree.map(lambda x: x[mine], demonstrations(seed=seed))
    state, metrics = step(state, batch)
whole = jax.jit(lambda x: x, out_shardings=jax.NamedSharding(mesh, jax.P()))(state.params)
leaves = jax.tree_util.tree_leaves_with_path((whole, metrics))
arrays = {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}
np.savez(directory / f"{jax.process_index()}.npz", **arrays)
"""


@pytest.mark.slow
def test_two_processes_are_one_device(one_device, tmp_path, monkeypatch):
    give_processes(monkeypatch, devices=4)
    two_processes(PROCESS, tmp_path)
    files = [tmp_path / f"{i}.npz" for i in range(2)]
    expected = {
        jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(one_device)
    }
    for file in files:
        with np.load(file) as actual:
            assert set(actual) == set(expected)
            for name, x in expected.items():
                assert np.abs(actual[name] - x).max() <= 1e-5 * np.abs(x).max(), name
