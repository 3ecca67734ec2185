"""Files of Hugging Face's layout, without transformers: every error, atomic export."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from irl_jax.models import huggingface
from irl_jax.models.decoder_config import DecoderConfig, RopeScaling
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.models.huggingface_config import config_of, write_config
from irl_jax.models.layout import param_shapes
from irl_jax.models.lora import attach, init_lora
from irl_jax.models.vocabulary import read_eos_ids
from irl_jax.types import InputError

CONFIG = DecoderConfig(
    vocab_size=19,
    d_model=12,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=6,
    d_ff=10,
    max_positions=50,
    rope_theta=3e5,
    rope_scaling=RopeScaling(8.0, 1.5, 4.5, 20),
    norm_eps=1e-3,
    tie_embeddings=False,
)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    flat = {p: rng.normal(size=s).astype(np.float32) for p, s in param_shapes(CONFIG).items()}
    return unflatten_dict(flat, sep="/")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, params):
    """A complete export: its config.json and its tensors."""
    directory = tmp_path_factory.mktemp("whole") / "model"
    save_huggingface(directory, CONFIG, params)
    config = json.loads((directory / "config.json").read_text())
    return config, load_file(directory / "model.safetensors")


@pytest.fixture
def model(tmp_path, whole):
    """Writes a directory with changed fields and tensors (None removes one)."""

    def build(fields=(), tensors=()):
        config, weights = dict(whole[0]), dict(whole[1])
        for target, changes in ((config, fields), (weights, tensors)):
            for name, value in dict(changes).items():
                if value is None and target is weights:
                    del target[name]
                else:
                    target[name] = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        save_file(weights, tmp_path / "model.safetensors")
        return tmp_path

    return build


def fails(directory, *words):
    with pytest.raises(InputError) as caught:
        load_huggingface(directory)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(directory), *words):
        assert word in message
    return message


def test_round_trip(model, params):
    config, read = load_huggingface(model())
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, read, params)
    assert all(type(x) is np.ndarray and x.dtype == np.float32 for x in jax.tree.leaves(read))


def test_the_layout_of_the_export(whole, params):
    _, tensors = whole
    attention = params["layers"]["attn"]
    key = tensors["model.layers.1.self_attn.k_proj.weight"]
    np.testing.assert_array_equal(key, attention["k"]["kernel"][1].T)
    assert key.shape == (2 * 6, 12)
    np.testing.assert_array_equal(tensors["lm_head.weight"], params["unembed"]["kernel"].T)
    np.testing.assert_array_equal(tensors["model.norm.weight"], params["final_norm"]["scale"])
    assert len(tensors) == 3 + 2 * 9


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "gpt2"}, ["gpt2", "llama, mistral, qwen2"]),
        ({"model_type": None}, ["null", "llama"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "gelu", "silu"]),
        ({"mlp_bias": True}, ["mlp.down_proj.bias", "missing"]),
        ({"mlp_bias": "yes"}, ["mlp_bias", "yes", "true or false"]),
        ({"attention_bias": True}, ["self_attn.k_proj.bias", "missing"]),
        ({"attention_dropout": 0.1}, ["attention_dropout", "0.1"]),
        ({"pretraining_tp": 2}, ["pretraining_tp", "2"]),
        ({"is_causal": False}, ["is_causal"]),
        ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor", "0.5"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ({"model_type": "mistral", "sliding_window": -1}, ["sliding_window", "-1"]),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": None},
            ["max_window_layers", "null"],
        ),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
            | {"layer_types": ["full_attention", "chunked_attention"]},
            ["layer_types", "chunked_attention", "sliding_attention"],
        ),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
            | {"layer_types": ["sliding_attention"]},
            ["layer_types", "2"],
        ),
        ({"rope_scaling": {"rope_type": "linear"}}, ["factor", "null"]),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, ["longrope", "llama3"]),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "dynamic"}}, ["factor", "null"]),
        ({"rope_scaling": {"type": "yarn", "factor": -2.0}}, ["factor", "-2.0"]),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_slow": 33}},
            ["beta_slow", "33", "32"],
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": 1}}, ["truncate", "1"]),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "rope_theta": 0.5}},
            ["rope_theta", "0.5"],
        ),
        ({"rope_scaling": {"full_attention": {"rope_type": "default"}}}, ["full_attention"]),
        ({"rope_scaling": {"rope_type": "default", "mscale": 2.0}}, ["mscale"]),
        ({"rope_scaling": {"partial_rotary_factor": 0.25}}, ["partial_rotary_factor"]),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ["low_freq_factor"]),
        (
            {
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0}
                | {"low_freq_factor": 4.0, "high_freq_factor": 4.0}
            },
            ["low_freq_factor", "high_freq_factor"],
        ),
        ({"rope_scaling": "linear"}, ["rope_scaling", "linear"]),
        ({"rope_theta": -1.0}, ["rope_theta", "-1.0"]),
        ({"hidden_size": "12"}, ["hidden_size", '"12"']),
        ({"hidden_size": 12.5}, ["hidden_size", "12.5"]),
        ({"num_hidden_layers": True}, ["num_hidden_layers", "true"]),
        ({"num_attention_heads": None}, ["num_attention_heads", "null"]),
        ({"num_key_value_heads": 3}, ["n_kv_heads", "3"]),
        ({"rms_norm_eps": 0.0}, ["rms_norm_eps"]),
        ({"vocab_size": 20}, ["model.embed_tokens.weight", "[20, 12]", "[19, 12]"]),
        ({"num_hidden_layers": 3}, ["model.layers.2", "missing"]),
        ({"num_hidden_layers": 1}, ["model.layers.1", "no place"]),
        ({"tie_word_embeddings": True}, ["lm_head.weight", "tie_word_embeddings"]),
    ],
)
def test_unsupported_configs(model, fields, words):
    fails(model(fields), *words)


@pytest.fixture
def qwen2_bias():
    return {
        f"model.layers.{i}.self_attn.{name}_proj.bias": np.zeros(size, np.float32)
        for i in range(2)
        for name, size in (("q", 24), ("k", 12), ("v", 12))
    }


def test_windows_without_effect(model, params, qwen2_bias):
    qwen2 = {"model_type": "qwen2", "sliding_window": 8}
    for fields in (
        {"use_sliding_window": False, "max_window_layers": 0},
        {"use_sliding_window": True, "max_window_layers": 2},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 2},
    ):
        config, read = load_huggingface(model(qwen2 | fields, qwen2_bias))
        assert config.attention_bias
        assert read["layers"]["attn"]["k"]["bias"].shape == (2, 12)
    for window in (50, None):
        fields = {"model_type": "mistral", "sliding_window": window}
        assert load_huggingface(model(fields))[0] == CONFIG


def test_windows_of_layers(model, qwen2_bias):
    """Written where they are stated, and back."""
    fields = {"model_type": "mistral", "sliding_window": 49}
    config, _ = load_huggingface(model(fields))
    assert config == dataclasses.replace(CONFIG, windows=(49, 49))
    qwen2 = {"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True}
    for fields, windows in (
        ({"max_window_layers": 0}, (8, 8)),
        ({"max_window_layers": 1}, (None, 8)),
        ({"layer_types": ["sliding_attention", "full_attention"]}, (8, None)),
    ):
        config, _ = load_huggingface(model(qwen2 | fields, qwen2_bias))
        assert config.windows == windows
        again = config_of(Path("config.json"), write_config(config, "float32", None))
        assert again == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "gpt2"}, "family 'gpt2' is unknown; use one of llama, mistral"),
        ({"qk_norm": "head"}, "qk_norm = 'head' has no place in a llama model"),
        ({"family": "qwen3"}, "qk_norm = 'none' has no place in a qwen3 model"),
        ({"windows": (3, 5)}, r"windows = \(3, 5\) has no place in a mistral model"),
        ({"logit_softcap": 3.0}, "logit_softcap = 3.0 has no place in a llama model"),
    ],
)
def test_a_family_without_a_field_for_it_is_no_export(tmp_path, change, words):
    config = dataclasses.replace(CONFIG, **change)
    params = unflatten_dict({p: np.zeros(s) for p, s in param_shapes(config).items()}, sep="/")
    with pytest.raises(InputError, match=words):
        save_huggingface(tmp_path / "out", config, params)
    assert not list(tmp_path.iterdir())


def test_what_changes_nothing_is_exported(tmp_path, params):
    """Windows beyond the context, and fields that no checkpoint holds."""
    idle = {"windows": (50, None), "ropes": ("global",) * 2, "query_scalar": 6, "rotary_dim": 6}
    config = dataclasses.replace(CONFIG, **idle, local_rope_theta=3.0, remat="full", used_vocab=7)
    save_huggingface(tmp_path / "out", config, params)
    assert load_huggingface(tmp_path / "out")[0] == CONFIG


def test_absent_fields_have_the_defaults_of_transformers(tmp_path, model):
    """A mistral config that names no window has one of 4,096 tokens."""
    model({"model_type": "mistral", "max_position_embeddings": 5000})
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    for name in ("sliding_window", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act"):
        fields.pop(name, None)
    path.write_text(json.dumps(fields))
    assert load_huggingface(tmp_path)[0].windows == (4096, 4096)
    path.write_text(json.dumps(fields | {"sliding_window": None}))
    config, _ = load_huggingface(tmp_path)
    assert (config.norm_eps, config.rope_theta, config.rope_scaling) == (1e-6, 1e4, None)


def test_unsupported_tensors(model):
    name = "model.layers.0.self_attn.q_proj.weight"
    fails(model(tensors={name: None}), name, "missing", "[24, 12]")
    transposed = np.zeros((12, 24), np.float32)
    fails(model(tensors={name: transposed}), name, "[24, 12]", "[12, 24]")
    fails(model(tensors={name: np.zeros((24, 12), np.int8)}), name, "I8", "BF16")
    norm = "model.layers.0.self_attn.q_norm.weight"
    fails(model(tensors={norm: np.ones(6, np.float32)}), norm, "no place")


def test_harmless_tensors(model, whole):
    """RoPE constants of old checkpoints, and an lm_head that is the embedding."""
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    assert load_huggingface(model(tensors=frequencies))[0] == CONFIG
    tied = {"lm_head.weight": whole[1]["model.embed_tokens.weight"]}
    config, read = load_huggingface(model({"tie_word_embeddings": True}, tied))
    assert config.tie_embeddings
    assert "unembed" not in read


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_becomes_f32(model, whole, dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in whole[1].items()}
    _, read = load_huggingface(model(tensors=tensors))
    got = read["layers"]["mlp"]["up"]["kernel"][1].T
    want = tensors["model.layers.1.mlp.up_proj.weight"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want.astype(np.float32))


def test_damaged_files(tmp_path, model):
    fails(tmp_path, "config.json", "expected a whole Hugging Face model directory")
    fails(tmp_path / "absent", "expected a whole Hugging Face model directory")
    model()
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    content = weights.read_bytes()
    for length in (0, 5, 300, len(content) - 1):
        weights.write_bytes(content[:length])
        fails(tmp_path, "model.safetensors", "truncated")
    weights.unlink()
    fails(tmp_path, "neither model.safetensors nor")
    for text in ("{", "\xff", "[]"):
        config.write_text(text, encoding="latin-1")
        fails(tmp_path, "config.json", "JSON" if text != "\xff" else "UTF-8")


def test_shards(tmp_path, params, monkeypatch):
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 3000)
    directory = tmp_path / "model"
    save_huggingface(directory, CONFIG, params)
    files = sorted(path.name for path in directory.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    sizes = [sum(t.nbytes for t in load_file(directory / name).values()) for name in files]
    assert max(sizes) <= 3000
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(sizes)
    assert set(index["weight_map"].values()) == set(files)
    config, read = load_huggingface(directory)
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, read, params)
    (directory / files[1]).unlink()
    fails(directory, files[1], "no such file")
    (directory / "model.safetensors.index.json").write_text("{}")
    fails(directory, "weight_map")


def test_export_is_whole_or_absent(tmp_path, params, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "save_file", full_disk)
        with pytest.raises(InputError, match=r"model: cannot be written \(No space"):
            save_huggingface(tmp_path / "deep" / "model", CONFIG, params)
    assert list((tmp_path / "deep").iterdir()) == []
    (tmp_path / "deep" / "model").mkdir()  # an empty directory may be filled
    save_huggingface(tmp_path / "deep" / "model", CONFIG, params)
    names = {path.name for path in (tmp_path / "deep" / "model").iterdir()}
    assert names == {"config.json", "model.safetensors"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    with safe_open(tmp_path / "deep" / "model" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    with pytest.raises(InputError, match="not empty"):
        save_huggingface(tmp_path / "deep" / "model", CONFIG, params)


def test_export_errors(tmp_path, params):
    adapted = attach(params, init_lora(jax.random.key(1), params, 2), 1.0)
    with pytest.raises(InputError, match=r"lora_a: merge the LoRA first"):
        save_huggingface(tmp_path / "model", CONFIG, adapted)
    with pytest.raises(InputError, match="int8"):
        save_huggingface(tmp_path / "model", CONFIG, params, dtype="int8")
    short = params | {"final_norm": {"scale": np.ones(11)}}
    with pytest.raises(InputError, match=r"final_norm/scale: expected \[12\], got \[11\]"):
        save_huggingface(tmp_path / "model", CONFIG, short)
    missing = {name: leaf for name, leaf in params.items() if name != "unembed"}
    with pytest.raises(InputError, match=r"unembed/kernel: expected .* got nothing"):
        save_huggingface(tmp_path / "model", CONFIG, missing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [("mkdir", errno.EACCES), ("write_text", errno.ENOSPC), ("replace", errno.ENOTEMPTY)],
)
def test_what_the_system_refuses_is_one_line(tmp_path, params, monkeypatch, name, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(huggingface.Path, name, refuse)
    with pytest.raises(InputError) as caught:
        save_huggingface(tmp_path / "model", CONFIG, params)
    assert f"model: cannot be written ([Errno {code}] {os.strerror(code)}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_is_one_line(tmp_path, params):
    (tmp_path / "file").write_text("")
    for place in ("file/model", "file", 300 * "long", "file/a/b"):
        with pytest.raises(InputError, match=r"cannot be written|choose another"):
            save_huggingface(tmp_path / place, CONFIG, params)
    save_huggingface(tmp_path / (250 * "n"), CONFIG, params)
    assert {path.name for path in tmp_path.iterdir()} == {"file", 250 * "n"}


@pytest.fixture
def sharded(tmp_path, params, monkeypatch):
    """A model in several files: its directory, its index, its files."""
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 3000)
    directory = tmp_path / "model"
    save_huggingface(directory, CONFIG, params)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    return directory, index["weight_map"], sorted(set(index["weight_map"].values()))


def rewrite(directory, weight_map):
    text = json.dumps({"weight_map": weight_map})
    (directory / "model.safetensors.index.json").write_text(text)


@pytest.mark.parametrize("other", [0, -1])
def test_the_index_decides_between_copies_of_a_tensor(sharded, params, other):
    """A stale copy in an earlier or a later file is not read."""
    directory, weight_map, files = sharded
    name = next(n for n, file in weight_map.items() if file not in (files[0], files[-1]))
    wrong = {name: load_file(directory / weight_map[name])[name] + 99.0}
    stale = directory / files[other]
    save_file(load_file(stale) | wrong, stale)
    jax.tree.map(np.testing.assert_array_equal, load_huggingface(directory)[1], params)


def test_files_that_are_not_what_the_index_says(sharded):
    directory, weight_map, files = sharded
    name = "model.layers.0.mlp.up_proj.weight"
    index = "model.safetensors.index.json"
    other = next(file for file in files if file != weight_map[name])
    rewrite(directory, weight_map | {name: other})
    fails(directory, other, name, "is not in it", index)
    rewrite(directory, {n: file for n, file in weight_map.items() if n != name})
    fails(directory, index, name, weight_map[name], "not in weight_map")
    rewrite(directory, weight_map | {name: "absent.safetensors"})
    fails(directory, "absent.safetensors", "no such file", index)
    for outside in ("../x.safetensors", "/etc/passwd", "a/b", "..", "", 7, None, ["a"]):
        rewrite(directory, weight_map | {name: outside})
        fails(directory, index, "weight_map", name, "in this directory")
    rewrite(directory, {})
    fails(directory, index, "weight_map", "empty")


def test_the_ends_of_a_completion_are_exported(tmp_path, params):
    """The first id, and all of them where transformers looks first; then read again."""
    cases = ([4, 7, 2], [4, 7, 2]), (4, 4), ((4,), 4), (np.int64(4), 4)
    for number, (ids, wanted) in enumerate(cases):
        place = tmp_path / str(number)
        save_huggingface(place, CONFIG, params, eos_token_id=ids, pad_token_id=3)
        read = lambda name, place=place: json.loads((place / name).read_text())
        assert read("config.json")["eos_token_id"] == 4
        assert read("generation_config.json") == {"eos_token_id": wanted, "pad_token_id": 3}
        again = read_eos_ids(place, CONFIG.vocab_size)
        assert list(again) == np.ravel(ids).tolist()
        save_huggingface(tmp_path / "again", CONFIG, params, eos_token_id=again, pad_token_id=3)
        for file in place.glob("*.json"):
            assert (tmp_path / "again" / file.name).read_text() == file.read_text()
        shutil.rmtree(tmp_path / "again")
    for wrong in (19, -1, [], [4, 19]):
        with pytest.raises(InputError, match="eos_token_id: expected ids below 19"):
            save_huggingface(tmp_path / "wrong", CONFIG, params, eos_token_id=wrong)
    assert not (tmp_path / "wrong").exists()
