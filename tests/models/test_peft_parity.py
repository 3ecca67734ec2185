"""Adapters in and out against the library PEFT: equal logits, whatever it is told to adapt."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest

from irl_jax.models.decoder import forward, logits
from irl_jax.models.huggingface import load_huggingface
from irl_jax.models.lora import attach, init_lora
from irl_jax.models.peft_files import Adapter, load_adapter, save_adapter
from tests.models.families import FAMILIES
from tests.models.torch_models import EXTRA, batch, error, random_model, theirs, torch, transformers

peft = pytest.importorskip("peft", reason=EXTRA)

TOLERANCE = 1e-4
DENSE = [name for name in FAMILIES if name not in ("mixtral", "qwen3_moe")]


def adapted(base, **fields):
    """The model with an adapter all of whose tensors matter."""
    model = peft.get_peft_model(base, peft.LoraConfig(**fields))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(0.0, 0.5 * parameter.shape[-1] ** -0.5)
    return model.eval()


@functools.partial(jax.jit, static_argnums=0)
def ours(config, params, tokens, mask):
    return logits(config, params, forward(config, params, tokens, mask=mask)[0])


def distance(config, params, adapter, model):
    tokens, mask = batch(config.vocab_size, length=20)
    got = ours(config, attach(params, adapter.lora, adapter.scale), tokens, mask)
    return error(got, theirs(model, tokens, mask), mask)


def saved(name, place, index=0):
    """A random model of a family on disk; the model, and what we read of it."""
    base = random_model(FAMILIES[name][index])
    base.save_pretrained(place)
    return base, *load_huggingface(place)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_in(name, tmp_path):
    base, config, params = saved(name, tmp_path / "base")
    targets = "all-linear" if name in DENSE else ["q_proj", "k_proj", "v_proj", "o_proj"]
    model = adapted(base, r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM")
    model.save_pretrained(tmp_path / "adapter")
    adapter = load_adapter(tmp_path / "adapter", config)
    assert distance(config, params, adapter, model) < TOLERANCE
    plain = adapter._replace(lora=jax.tree.map(np.zeros_like, adapter.lora))
    assert distance(config, params, plain, model) > 100 * TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_out(name, tmp_path):
    base, config, params = saved(name, tmp_path / "base")
    targets = "attn" if name not in DENSE else "attn|mlp"
    rng = np.random.default_rng(0)
    start = init_lora(jax.random.key(0), params, 3, targets)
    lora = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), start)
    adapter = Adapter(lora, 3, 4.0)
    save_adapter(tmp_path / "out", config, adapter, base=str(tmp_path / "base"))
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    assert distance(config, params, adapter, model) < TOLERANCE
    again = load_adapter(tmp_path / "out", config)
    assert distance(config, params, again, model) < TOLERANCE


PATTERNS = {
    "patterns": {
        "target_modules": ["q_proj", "up_proj", "o_proj"],
        "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 2, "up_proj": 5},
        "alpha_pattern": {"1.mlp.up_proj": 9, "q_proj": 3},
    },
    "rslora": {"target_modules": ["v_proj", "down_proj"], "use_rslora": True,
               "rank_pattern": {"v_proj": 2}},
    "regex": {"target_modules": r".*layers\.(0|2)\..*(gate|k)_proj"},
    "layers": {"target_modules": ["q_proj", "gate_proj"], "layers_to_transform": [1]},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["o_proj", "0.mlp.up_proj"]},
    "gaussian": {"target_modules": ["k_proj"], "init_lora_weights": "gaussian"},
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_how_modules_are_chosen(name, tmp_path):
    """In, and out again into PEFT."""
    base, config, params = saved("qwen3", tmp_path / "base")
    model = adapted(base, r=4, lora_alpha=6, task_type="CAUSAL_LM", **PATTERNS[name])
    model.save_pretrained(tmp_path / "adapter")
    adapter = load_adapter(tmp_path / "adapter", config)
    assert distance(config, params, adapter, model) < TOLERANCE
    save_adapter(tmp_path / "out", config, adapter, base="x")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    assert distance(config, params, adapter, again) < TOLERANCE


def test_dora_is_refused_by_name(tmp_path):
    base, config, _ = saved("llama", tmp_path / "base")
    adapted(base, r=2, target_modules=["q_proj"], use_dora=True).save_pretrained(tmp_path / "dora")
    with pytest.raises(ValueError, match="use_dora = true is not supported"):
        load_adapter(tmp_path / "dora", config)


def test_a_reward_model(tmp_path):
    """Its head is read, and written where PEFT looks for it."""
    base, config, _ = saved("llama", tmp_path / "base")
    del base
    kind = transformers.AutoModelForSequenceClassification
    load = lambda: kind.from_pretrained(tmp_path / "base", num_labels=1, pad_token_id=0).eval()
    model = adapted(load(), r=2, target_modules=["q_proj"], task_type="SEQ_CLS")
    model.save_pretrained(tmp_path / "adapter")
    adapter = load_adapter(tmp_path / "adapter", config)
    save_adapter(tmp_path / "out", config, adapter, base="x")
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
    again = peft.PeftModel.from_pretrained(load(), tmp_path / "out").eval()
    tokens = torch.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        want, got = (x(tokens).logits.numpy() for x in (model, again))
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert np.ptp(want) > 1e-2
