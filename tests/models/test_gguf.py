"""GGUF files written here, with the convention of llama.cpp, and read back."""

import dataclasses
import sys

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from irl_jax.models.decoder_config import DecoderConfig, RopeScaling
from irl_jax.models.gguf import interleaved_to_half_split, load_gguf
from irl_jax.models.layout import param_shapes
from irl_jax.models.rope import rope_table, rotate
from irl_jax.types import InputError

gguf = pytest.importorskip("gguf", reason='needs pip install "irl_jax[demo]"')
Kind = gguf.GGMLQuantizationType

CONFIG = DecoderConfig(
    vocab_size=35,
    d_model=64,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=24,
    d_ff=96,
    max_positions=77,
    rope_theta=25_000.0,
    norm_eps=3e-4,
    tie_embeddings=False,
)
METADATA = {
    "vocab_size": 35,
    "embedding_length": 64,
    "block_count": 2,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 24,
    "attention.value_length": 24,
    "rope.dimension_count": 24,
    "feed_forward_length": 96,
    "context_length": 77,
    "rope.freq_base": 25_000.0,
    "attention.layer_norm_rms_epsilon": 3e-4,
}


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    flat = {p: rng.normal(size=s).astype(np.float32) for p, s in param_shapes(CONFIG).items()}
    return unflatten_dict(flat, sep="/")


def interleave(weight, heads):
    """llama.cpp's conversion of a q or k projection from Hugging Face's convention."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def gguf_tensors(params):
    """Name -> array of the file that holds these parameters."""
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
    names |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    heads = {"q": CONFIG.n_heads, "k": CONFIG.n_kv_heads}
    layers = params["layers"]
    found = {
        "token_embd.weight": params["embed"]["embedding"],
        "output_norm.weight": params["final_norm"]["scale"],
        "output.weight": params["unembed"]["kernel"].T,
    }
    for i in range(CONFIG.n_layers):
        found[f"blk.{i}.attn_norm.weight"] = layers["attn_norm"]["scale"][i]
        found[f"blk.{i}.ffn_norm.weight"] = layers["mlp_norm"]["scale"][i]
        for name, leaf in (layers["attn"] | layers["mlp"]).items():
            weight = leaf["kernel"][i].T
            weight = interleave(weight, heads[name]) if name in heads else weight
            found[f"blk.{i}.{names[name]}.weight"] = weight
    return found


def write(path, tensors, metadata=METADATA, kind=Kind.F32, architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        key = f"{architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, tensor in tensors.items():
        tensor = np.ascontiguousarray(tensor, np.float32)
        wanted = kind if tensor.ndim == 2 else Kind.F32
        writer.add_tensor(name, gguf.quantize(tensor, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


def check_equal(got, want):
    got, want = flatten_dict(got, sep="/"), flatten_dict(want, sep="/")
    assert got.keys() == want.keys()
    for path in want:
        assert isinstance(got[path], np.ndarray)
        assert got[path].dtype == np.float32
        np.testing.assert_array_equal(got[path], want[path], err_msg=path)


def test_every_field_and_parameter(tmp_path, params):
    config, read = load_gguf(write(tmp_path / "m.gguf", gguf_tensors(params)))
    assert config == CONFIG
    check_equal(read, params)


def test_tied_embeddings(tmp_path, params):
    tensors = without(gguf_tensors(params), "output.weight")
    config, read = load_gguf(write(tmp_path / "m.gguf", tensors))
    assert config == dataclasses.replace(CONFIG, tie_embeddings=True)
    check_equal(read, without(params, "unembed"))


def test_absent_metadata_has_the_defaults_of_the_format(tmp_path, params):
    optional = ("vocab_size", "attention.value_length", "rope.dimension_count", "rope.freq_base")
    metadata = {k: v for k, v in METADATA.items() if k not in optional}
    config, _ = load_gguf(write(tmp_path / "m.gguf", gguf_tensors(params), metadata))
    assert config == dataclasses.replace(CONFIG, rope_theta=10_000.0)


def dequantize_q8_0(raw):
    """Blocks of 34 bytes: f16 scale, 32 signed bytes."""
    blocks = raw.reshape(-1, 34)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return (scale * blocks[:, 2:].view(np.int8)).reshape(raw.shape[0], -1)


def dequantize_q4_1(raw):
    """Blocks of 20 bytes: f16 scale and minimum, 32 nibbles, the low ones first."""
    blocks = raw.reshape(-1, 20)
    scale, minimum = (blocks[:, i : i + 2].copy().view(np.float16) for i in (0, 2))
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    values = scale.astype(np.float32) * nibbles + minimum.astype(np.float32)
    return values.reshape(raw.shape[0], -1)


def dequantize_bf16(raw):
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def dequantize_f16(raw):
    return raw.view(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        (Kind.Q8_0, dequantize_q8_0),
        (Kind.Q4_1, dequantize_q4_1),
        (Kind.BF16, dequantize_bf16),
        (Kind.F16, dequantize_f16),
    ],
)
def test_dequantisation(tmp_path, params, kind, oracle):
    tensors = gguf_tensors(params)
    _, read = load_gguf(write(tmp_path / "m.gguf", tensors, kind=kind))
    for name, got in [
        ("token_embd.weight", read["embed"]["embedding"]),
        ("output.weight", read["unembed"]["kernel"].T),
        ("blk.1.ffn_down.weight", read["layers"]["mlp"]["down"]["kernel"][1].T),
    ]:
        raw = gguf.quantize(np.ascontiguousarray(tensors[name]), kind)
        np.testing.assert_array_equal(got, oracle(raw))


def test_heads_score_as_in_the_interleaved_convention():
    """q·k after RoPE on pairs (2i, 2i + 1) of the file = after the decoder's RoPE."""
    rng = np.random.default_rng(1)
    heads, size, d = CONFIG.n_heads, CONFIG.head_dim, 10
    weights, inputs = rng.normal(size=(2, heads * size, d)), rng.normal(size=(2, d))
    positions = np.array([3, 11])
    freq = CONFIG.rope_theta ** (-np.arange(size // 2) / (size // 2))
    turn = np.exp(1j * positions[:, None] * freq)  # [2, H / 2]
    projected = np.einsum("nrd,nd->nr", weights, inputs).reshape(2, heads, size // 2, 2)
    query, key = (projected[..., 0] + 1j * projected[..., 1]) * turn[:, None]
    want = (query * key.conj()).real.sum(-1)
    ours = np.stack(
        [interleaved_to_half_split(w, heads) @ x for w, x in zip(weights, inputs, strict=True)]
    ).reshape(2, heads, size)
    query, key = rotate(ours.astype(np.float32), *rope_table(CONFIG, positions))
    np.testing.assert_allclose((query * key).sum(-1), want, rtol=1e-4, atol=1e-4)


def llama3_divisors(factor, low, high, original, head_dim, theta):
    """As llama.cpp's converter writes them: by wavelength, in three cases."""
    divisors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (i / head_dim)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors)


def test_llama3_frequency_divisors(tmp_path, params):
    divisors = llama3_divisors(32.0, 1, 4, 8192, 24, 25_000.0)
    assert len(set(divisors)) >= 4  # all three cases occur
    tensors = gguf_tensors(params) | {"rope_freqs.weight": divisors}
    config, read = load_gguf(write(tmp_path / "m.gguf", tensors))
    assert config.rope_scaling == RopeScaling(32.0, 1.0, 4.0, 8192)
    check_equal(read, params)


def fails(path, *words):
    with pytest.raises(InputError) as caught:
        load_gguf(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, ["rope.scaling.type"]),
        ({"rope.scaling.factor": 2.0}, ["rope.scaling.factor", "2.0"]),
        ({"rope.dimension_count": 12}, ["rope.dimension_count", "12", "24"]),
        ({"attention.value_length": 12}, ["attention.value_length"]),
        ({"attention.sliding_window": 16}, ["attention.sliding_window = 16"]),
        ({"expert_count": 8}, ["expert_count"]),
        ({"logit_scale": 0.5}, ["logit_scale"]),
        ({"attention.head_count_kv": [2, 1]}, ["attention.head_count_kv", "[2, 1]"]),
        ({"attention.head_count_kv": 3}, ["n_kv_heads"]),
        ({"attention.head_count": 0}, ["attention.head_count", "0"]),
        ({"block_count": 3}, ["tensor blk.2.", "is missing"]),
        ({"vocab_size": 36}, ["token_embd.weight", "[36, 64]", "[35, 64]"]),
        ({"feed_forward_length": 95}, ["blk.0.ffn_down.weight", "[64, 95]", "[64, 96]"]),
    ],
)
def test_unsupported_metadata(tmp_path, params, change, words):
    path = write(tmp_path / "m.gguf", gguf_tensors(params), METADATA | change)
    fails(path, *words)


@pytest.mark.parametrize("key", ["embedding_length", "attention.layer_norm_rms_epsilon"])
def test_missing_metadata(tmp_path, params, key):
    path = write(tmp_path / "m.gguf", gguf_tensors(params), without(METADATA, key))
    fails(path, f"llama.{key}")


def test_neutral_metadata_is_accepted(tmp_path, params):
    neutral = {"rope.scaling.type": "none", "expert_count": 0}
    path = write(tmp_path / "m.gguf", gguf_tensors(params), METADATA | neutral)
    assert load_gguf(path)[0] == CONFIG


def test_unsupported_tensors(tmp_path, params):
    tensors = gguf_tensors(params)
    bias = tensors | {"blk.0.attn_q.bias": np.zeros(96)}
    fails(write(tmp_path / "a.gguf", bias), "blk.0.attn_q.bias")
    missing = without(tensors, "blk.1.ffn_up.weight")
    fails(write(tmp_path / "b.gguf", missing), "blk.1.ffn_up.weight")
    other_rope = tensors | {"rope_freqs.weight": np.linspace(1, 4, 12)}
    fails(write(tmp_path / "c.gguf", other_rope), "rope_freqs.weight")


def test_other_architecture(tmp_path, params):
    path = write(tmp_path / "m.gguf", gguf_tensors(params), architecture="gemma")
    fails(path, "gemma", "llama")


def test_damaged_files(tmp_path, params):
    whole = write(tmp_path / "m.gguf", gguf_tensors(params)).read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 10, 30, *range(100, 2000, 97), len(whole) // 2, len(whole) - 33]:
        cut.write_bytes(whole[:length])
        fails(cut, "truncated")
    cut.write_bytes(b"PK\x03\x04" + whole[4:])
    fails(cut, "not a GGUF file")
    fails(tmp_path / "absent.gguf", "no such file")


def test_missing_package(tmp_path, params, monkeypatch):
    path = write(tmp_path / "m.gguf", gguf_tensors(params))
    monkeypatch.setitem(sys.modules, "gguf", None)
    fails(path, 'pip install "irl_jax[demo]"')
