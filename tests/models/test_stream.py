"""A model read to its place on a mesh is the one read to the host; nothing is read in vain."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors import safe_open

from irl_jax.models import huggingface
from irl_jax.models.decoder import init_params
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.models.mesh import make_mesh, parameter_shardings
from irl_jax.models.sharding import RULES
from irl_jax.types import InputError

LLAMA = DecoderConfig(
    vocab_size=40, d_model=16, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=4, d_ff=24,
    max_positions=32, tie_embeddings=False,
)  # fmt: skip
CONFIGS = {
    "llama": LLAMA,
    "qwen2": replace(LLAMA, attention_bias=True, tie_embeddings=True),
    "phi3": replace(LLAMA, family="phi3"),  # q, k, v in one tensor, gate and up in another
    "mixtral": replace(
        LLAMA, family="mixtral", n_experts=3, experts_per_token=2, normalize_experts=True
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def directory(request, tmp_path_factory):
    """A bf16 checkpoint of several files."""
    config = CONFIGS[request.param]
    params = init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.1 * np.sin(np.arange(x.size)).reshape(x.shape), params)
    path = tmp_path_factory.mktemp("stream") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface, "SHARD_BYTES", 6000)
        save_huggingface(path, config, params, dtype="bfloat16")
    assert len(list(path.glob("*.safetensors"))) > 1
    return path


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2), (1, 4, 1), (1, 1, 4)])
def test_a_model_on_a_mesh_is_that_on_the_host(directory, sizes):
    mesh = make_mesh(*sizes)
    config, want = load_huggingface(directory)
    streamed, got = load_huggingface(directory, mesh)
    assert streamed == config
    jax.tree.map(np.testing.assert_array_equal, got, want)
    wanted = parameter_shardings(mesh, want, RULES)
    jax.tree.map(lambda x, sharding: np.testing.assert_equal(x.sharding, sharding), got, wanted)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {np.dtype("float32")}


class Counted:
    """An open file that counts the elements of matrices that are read."""

    def __init__(self, file, counts):
        self.file, self.counts = file, counts

    def __getattr__(self, name):
        return getattr(self.file, name)

    def get_slice(self, name):
        return CountedSlice(self.file.get_slice(name), self.counts)


class CountedSlice(Counted):
    """A tensor of such a file."""

    def __getitem__(self, part):
        found = self.file[part]
        self.counts.append(found.size if found.ndim == 2 else 0)
        return found


def test_every_matrix_is_read_once_by_all_devices_together(directory, monkeypatch):
    counts, real = [], huggingface.open_file
    monkeypatch.setattr(huggingface, "open_file", lambda *args: Counted(real(*args), counts))
    load_huggingface(directory, make_mesh(1, 4, 2))
    whole = 0
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        whole += sum(np.prod(shape) for shape in shapes if len(shape) == 2)
    router = 2 * 16 * 3 if "mixtral" in directory.name else 0  # cut over fsdp alone: read by both
    assert sum(counts) == whole + router


def test_a_mesh_that_does_not_fit_is_refused(directory):
    with pytest.raises(InputError, match="does not divide over"):
        load_huggingface(directory, make_mesh(1, 1, 7))
