"""Logits equal those of transformers, at values of every field that are not defaults."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from irl_jax.models.decoder import forward, logits
from irl_jax.models.decoder_config import RopeScaling
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.models.pretrained import load_pretrained, smollm2_path
from irl_jax.types import InputError
from tests.models.torch_models import (
    EXTRA,
    batch,
    error,
    random_model,
    theirs,
    torch,
    transformers,
)

SHAPE = {"vocab_size": 61, "num_hidden_layers": 3, "max_position_embeddings": 96}
SMALL = SHAPE | {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 3e4,
    "factor": 6.0,
    "low_freq_factor": 1.5,
    "high_freq_factor": 5.0,
    "original_max_position_embeddings": 24,
}
MODELS = {
    "llama-one-kv-head": transformers.LlamaConfig(
        **SMALL,
        num_key_value_heads=1,
        head_dim=10,
        rms_norm_eps=1e-3,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    ),
    "llama-all-kv-heads": transformers.LlamaConfig(
        **SMALL, num_key_value_heads=4, rms_norm_eps=1e-2, tie_word_embeddings=True
    ),
    "llama-3.1": transformers.LlamaConfig(
        **SMALL, num_key_value_heads=2, head_dim=16, rope_parameters=LLAMA3
    ),
    "mistral": transformers.MistralConfig(
        **(SMALL | {"hidden_size": 30, "num_attention_heads": 4}),
        num_key_value_heads=2,
        head_dim=14,
        sliding_window=None,
        rms_norm_eps=1e-4,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0},
    ),
    "mistral-idle-window": transformers.MistralConfig(
        **SMALL, num_key_value_heads=2, sliding_window=96
    ),
    "qwen2": transformers.Qwen2Config(
        **SMALL,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 2e4},
    ),
}


@functools.partial(jax.jit, static_argnums=0)
def ours(config, params, tokens, mask):
    return logits(config, params, forward(config, params, tokens, mask=mask)[0])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> (model of transformers, directory it was saved to)."""
    found = {}
    for name, config in MODELS.items():
        directory = tmp_path_factory.mktemp(name)
        model = random_model(config)
        model.save_pretrained(directory)
        found[name] = (model, directory)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_import(saved, name):
    model, directory = saved[name]
    config, params = load_huggingface(directory)
    tokens, mask = batch(config.vocab_size)
    for m in (mask, np.ones_like(mask)):
        assert error(ours(config, params, tokens, m), theirs(model, tokens, m), m) < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_export(saved, name, tmp_path):
    model, directory = saved[name]
    config, params = load_huggingface(directory)
    save_huggingface(tmp_path / "out", config, params)
    exported = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    ).eval()
    assert exported.dtype == torch.float32
    tokens, mask = batch(config.vocab_size)
    np.testing.assert_array_equal(theirs(exported, tokens, mask), theirs(model, tokens, mask))
    again, restored = load_huggingface(tmp_path / "out")
    assert again == config
    jax.tree.map(np.testing.assert_array_equal, restored, params)


def test_the_fields_are_felt(saved):
    """Each field, put at another value, moves the logits: parity above sees them all."""
    config, params = load_huggingface(saved["llama-3.1"][1])
    tokens, mask = batch(config.vocab_size)
    reference = np.asarray(ours(config, params, tokens, mask))
    scaling = config.rope_scaling
    changes = [{"rope_theta": 1e4}, {"norm_eps": 1e-2}, {"rope_scaling": None}] + [
        {"rope_scaling": dataclasses.replace(scaling, **{field.name: value})}
        for field, value in zip(dataclasses.fields(RopeScaling), (3.0, 1.0, 9.0, 48), strict=True)
    ]
    for change in changes:
        changed = ours(dataclasses.replace(config, **change), params, tokens, mask)
        assert error(changed, reference, mask) > 1e-3, change


def test_config_of_transformers_4(saved, tmp_path):
    """`rope_theta` and `rope_scaling` instead of `rope_parameters`."""
    _, directory = saved["llama-3.1"]
    stated = json.loads((directory / "config.json").read_text())
    rope = stated.pop("rope_parameters")
    stated["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    stated["rope_scaling"] = rope
    (tmp_path / "config.json").write_text(json.dumps(stated))
    (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
    assert load_huggingface(tmp_path)[0] == load_huggingface(directory)[0]
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.rope_parameters["rope_theta"] == LLAMA3["rope_theta"]


def test_bfloat16_and_shards(saved, tmp_path):
    """A checkpoint in bf16 and several files is the model that transformers loads from it."""
    model, _ = saved["qwen2"]
    model = type(model)(model.config).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert not (tmp_path / "model.safetensors").exists()
    config, params = load_pretrained(tmp_path)
    tokens, mask = batch(config.vocab_size)
    want = theirs(model.to(torch.float32).eval(), tokens, mask)
    assert error(ours(config, params, tokens, mask), want, mask) < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_export_in_half_precision(saved, tmp_path, dtype):
    config, params = load_huggingface(saved["llama-3.1"][1])
    save_huggingface(tmp_path / "out", config, params, dtype=dtype, eos_token_id=7)
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert exported.dtype == getattr(torch, dtype)
    assert exported.config.eos_token_id == 7
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {dtype}
    _, restored = load_huggingface(tmp_path / "out")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8, atol=1e-6), restored, params
    )


@pytest.fixture(scope="module")
def smollm2():
    try:
        path = smollm2_path()
    except InputError as missing:
        pytest.skip(str(missing))
    pytest.importorskip("gguf", reason='needs pip install "irl_jax[demo]"')
    return path


@pytest.mark.slow
def test_smollm2_from_gguf(smollm2, tmp_path):
    """SmolLM2-135M: transformers reads the same GGUF file with an importer of its own."""
    pytest.importorskip("accelerate", reason=EXTRA)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    ).eval()
    config, params = load_pretrained(smollm2)
    tokens, mask = batch(config.vocab_size, rows=2, length=64)
    for m in (mask, np.ones_like(mask)):
        want, got = theirs(model, tokens, m), np.asarray(ours(config, params, tokens, m))
        assert error(got, want, m) < 1e-4
        assert (got.argmax(-1) == want.argmax(-1))[m].all()
    save_huggingface(tmp_path / "smollm2", config, params)
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "smollm2").eval()
    assert error(theirs(exported, tokens, mask), theirs(model, tokens, mask), mask) < 1e-5
