"""Adapters of PEFT, read and written, against W + s·B·A of every module in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.layout import param_shapes
from irl_jax.models.lora import init_lora, merge
from irl_jax.models.peft_files import Adapter, load_adapter, save_adapter
from irl_jax.types import InputError

D, FF, LAYERS = 12, 20, 3
SHAPE = {
    "vocab_size": 17, "d_model": D, "n_layers": LAYERS, "n_heads": 2, "n_kv_heads": 1,
    "head_dim": 6, "d_ff": FF, "max_positions": 16,
}  # fmt: skip
LLAMA = DecoderConfig(**SHAPE)
PHI3 = DecoderConfig(**SHAPE, family="phi3")
MIXTRAL = DecoderConfig(**SHAPE, family="mixtral", n_experts=2, experts_per_token=1)
KERNELS = {  # module -> D_in, D_out, our kernels with their rows
    "self_attn.q_proj": (D, 12, {"attn/q": (0, 12)}),
    "self_attn.k_proj": (D, 6, {"attn/k": (0, 6)}),
    "self_attn.v_proj": (D, 6, {"attn/v": (0, 6)}),
    "self_attn.o_proj": (12, D, {"attn/o": (0, D)}),
    "mlp.gate_proj": (D, FF, {"mlp/gate": (0, FF)}),
    "mlp.up_proj": (D, FF, {"mlp/up": (0, FF)}),
    "mlp.down_proj": (FF, D, {"mlp/down": (0, D)}),
    "self_attn.qkv_proj": (D, 24, {"attn/q": (0, 12), "attn/k": (12, 18), "attn/v": (18, 24)}),
    "mlp.gate_up_proj": (D, 2 * FF, {"mlp/gate": (0, FF), "mlp/up": (FF, 2 * FF)}),
}
DENSE = [name for name in KERNELS if name.split(".")[1] not in ("qkv_proj", "gate_up_proj")]
FUSED = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]


def module(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{name}"


def write(directory: Path, ranks: dict[str, int], *, change=None, dtype=np.float32, **fields):
    """An adapter with drawn tensors; returns what its file holds."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, rank in ranks.items():
        d_in, d_out, _ = KERNELS[name.split(".", 3)[3]]
        for factor, shape in (("A", (rank, d_in)), ("B", (d_out, rank))):
            drawn = rng.normal(0, 0.3, shape).astype(dtype)
            tensors[f"base_model.model.{name}.lora_{factor}.weight"] = drawn
    if change is not None:
        change(tensors)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "x"}
    (directory / "adapter_config.json").write_text(json.dumps(config | fields))
    return tensors


def params_of(config: DecoderConfig) -> dict:
    rng = np.random.default_rng(1)
    draw = lambda shape: rng.normal(0, 0.3, shape).astype(np.float32)
    flat = {path: draw(shape) for path, shape in param_shapes(config).items()}
    return unflatten_dict(flat, sep="/")


def oracle(params: dict, tensors: dict, scales: dict[str, float]) -> dict[str, np.ndarray]:
    """Every parameter in float64; W [D_out, D_in] + s·B·A for each module of `scales`."""
    flat = {k: x.astype(np.float64) for k, x in flatten_dict(params, sep="/").items()}
    for name, scale in scales.items():
        _, _, layer, kind = name.split(".", 3)
        a, b = (
            tensors[f"base_model.model.{name}.lora_{factor}.weight"].astype(np.float64)
            for factor in "AB"
        )
        delta = np.array([[scale * sum(b[o] * a[:, i]) for i in range(a.shape[1])]
                          for o in range(b.shape[0])])  # fmt: skip
        for path, (first, last) in KERNELS[kind][2].items():
            flat[f"layers/{path}/kernel"][int(layer)] += delta[first:last].T
    return flat


def check(config: DecoderConfig, directory: Path, tensors: dict, scales: dict[str, float]):
    """Reads the directory; all parameters, merged, are the oracle's."""
    params, adapter = params_of(config), load_adapter(directory, config)
    merged = flatten_dict(merge(params, adapter.lora, adapter.scale), sep="/")
    for path, want in oracle(params, tensors, scales).items():
        np.testing.assert_allclose(merged[path], want, rtol=1e-5, atol=1e-6, err_msg=path)
    return adapter


def everywhere(*kinds: str, rank: int = 3) -> dict[str, int]:
    return {module(layer, kind): rank for layer in range(LAYERS) for kind in kinds}


@pytest.mark.parametrize("rslora", [False, True])
def test_one_rank(rslora, tmp_path):
    ranks = everywhere(*DENSE)
    tensors = write(
        tmp_path, ranks, r=3, lora_alpha=5.0, use_rslora=rslora,
        target_modules=[name.split(".")[1] for name in DENSE],
    )  # fmt: skip
    scale = 5 / math.sqrt(3) if rslora else 5 / 3
    adapter = check(LLAMA, tmp_path, tensors, dict.fromkeys(ranks, scale))
    b = tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"]
    np.testing.assert_array_equal(adapter.lora["layers"]["mlp"]["up"]["b"][1], b.T)


@pytest.mark.parametrize("rslora", [False, True])
def test_patterns(rslora, tmp_path):
    """The first pattern that is the end of a name; layers of one kernel differ."""
    ranks = everywhere("self_attn.q_proj", "mlp.down_proj", rank=4)
    ranks |= {module(1, "self_attn.q_proj"): 2, module(2, "self_attn.q_proj"): 5}
    ranks |= dict.fromkeys([n for n in ranks if "down" in n], 1)
    alphas = dict.fromkeys(ranks, 8.0) | {module(1, "self_attn.q_proj"): 7.0}
    tensors = write(
        tmp_path, ranks, r=4, lora_alpha=8, use_rslora=rslora,
        target_modules=["q_proj", "mlp.down_proj"],
        rank_pattern={r"layers\.1\.self_attn\.q_proj": 2, "2.self_attn.q_proj": 5,
                      "down_proj": 1, "mlp.down_proj": 6, "own_proj": 3},
        alpha_pattern={"model.layers.1.self_attn.q_proj": 7.0, "q_pro": 99.0},
    )  # fmt: skip
    root = math.sqrt if rslora else float
    check(LLAMA, tmp_path, tensors, {n: alphas[n] / root(ranks[n]) for n in ranks})


@pytest.mark.parametrize(
    ("kinds", "layers", "fields"),
    [
        (DENSE, range(LAYERS), {"target_modules": "all-linear"}),
        (["mlp.up_proj", "mlp.gate_proj"], range(LAYERS), {"target_modules": r".*(up|gate)_proj"}),
        (["mlp.up_proj"], [0, 2], {"target_modules": ["up_proj"], "layers_to_transform": [0, 2]}),
        (["self_attn.v_proj"], [1], {"target_modules": ["v_proj"], "layers_to_transform": 1}),
        (["mlp.up_proj"], range(LAYERS), {"target_modules": ["up_proj", "o_proj"],
                                          "exclude_modules": ["self_attn.o_proj"]}),
        (["mlp.up_proj"], [1, 2], {"target_modules": ["up_proj"], "exclude_modules": r".*\.0\..*"}),
        (["mlp.up_proj"], [2], {"target_modules": ["model.layers.2.mlp.up_proj"]}),
    ],
)  # fmt: skip
def test_which_modules(kinds, layers, fields, tmp_path):
    ranks = {module(layer, kind): 2 for layer in layers for kind in kinds}
    tensors = write(tmp_path, ranks, r=2, lora_alpha=3, **fields)
    adapter = check(LLAMA, tmp_path, tensors, dict.fromkeys(ranks, 1.5))
    found = {path.rpartition("/")[0] for path in flatten_dict(adapter.lora["layers"], sep="/")}
    assert found == {path for kind in kinds for path in KERNELS[kind][2]}


def test_fused_modules(tmp_path):
    ranks = everywhere("self_attn.qkv_proj", rank=2) | everywhere("mlp.gate_up_proj", rank=3)
    tensors = write(
        tmp_path, ranks, r=2, lora_alpha=3, target_modules=["qkv_proj", "gate_up_proj"],
        rank_pattern={"gate_up_proj": 3},
    )  # fmt: skip
    scales = {name: 3 / rank for name, rank in ranks.items()}
    check(PHI3, tmp_path, tensors, scales)


def test_bfloat16_tensors(tmp_path):
    ranks = everywhere("mlp.up_proj")
    tensors = write(
        tmp_path, ranks, r=3, lora_alpha=3, target_modules=["up_proj"], dtype=ml_dtypes.bfloat16
    )
    check(LLAMA, tmp_path, tensors, dict.fromkeys(ranks, 1.0))


def test_experts(tmp_path):
    """Files of transformers 4, where every expert is modules of its own."""
    kinds = {f"block_sparse_moe.experts.{e}.{w}": (D, FF) for e in (0, 1) for w in ("w1", "w3")}
    rng, tensors = np.random.default_rng(2), {}
    for layer in range(LAYERS):
        for kind in kinds:
            name = f"base_model.model.model.layers.{layer}.{kind}"
            tensors[f"{name}.lora_A.weight"] = rng.normal(size=(2, D)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.normal(size=(FF, 2)).astype(np.float32)
    write(tmp_path, {}, change=lambda t: t.update(tensors), r=2, lora_alpha=2,
          target_modules=["w1", "w3", "gate"])  # fmt: skip
    lora = load_adapter(tmp_path, MIXTRAL).lora["layers"]["mlp"]["experts"]
    assert set(lora) == {"gate", "up"}
    name = "base_model.model.model.layers.2.block_sparse_moe.experts.1.w3"
    np.testing.assert_array_equal(lora["up"]["a"][2, 1], tensors[f"{name}.lora_A.weight"].T)
    np.testing.assert_array_equal(lora["up"]["b"][2, 1], tensors[f"{name}.lora_B.weight"].T)
    with pytest.raises(InputError, match=r"lora.targets: layers/mlp/experts/.*--export merged"):
        save_adapter(tmp_path / "out", MIXTRAL, load_adapter(tmp_path, MIXTRAL), base="x")
    assert not (tmp_path / "out").exists()


def same_tree(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(("config", "kinds"), [(LLAMA, DENSE), (PHI3, FUSED)])
def test_import_is_import_of_its_export(config, kinds, rslora, tmp_path):
    """To the bit, with ranks and scales that differ, and a head."""
    ranks = everywhere(*kinds, rank=3) | {module(1, "self_attn.o_proj"): 5}
    head = np.random.default_rng(4).normal(size=(2, D)).astype(np.float32)
    write(
        tmp_path / "in", ranks, r=3, lora_alpha=7.3, use_rslora=rslora, task_type="SEQ_CLS",
        modules_to_save=["classifier", "score"], target_modules=[k.split(".")[1] for k in kinds],
        rank_pattern={"1.self_attn.o_proj": 5}, alpha_pattern={"2.self_attn.o_proj": 0.7},
        change=lambda t: t.update({"base_model.model.score.weight": head}),
    )  # fmt: skip
    first = load_adapter(tmp_path / "in", config)
    save_adapter(tmp_path / "out", config, first, base="base")
    again = load_adapter(tmp_path / "out", config)
    same_tree(again.lora, first.lora)
    np.testing.assert_array_equal(again.head, head)
    assert (again.rank, again.alpha) == (first.rank, first.alpha)
    fields = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert fields["rank_pattern"] == {"o_proj": 5}
    assert fields["task_type"] == "SEQ_CLS" and fields["modules_to_save"] == ["score"]
    assert fields["base_model_name_or_path"] == "base"
    save_adapter(tmp_path / "again", config, again, base="base")
    want, got = (load_file(tmp_path / x / "adapter_model.safetensors") for x in ("out", "again"))
    same_tree(got, want)


@pytest.mark.parametrize("chosen", ["attn/[qkvo]|mlp", "attn/[qv]", "attn/k|mlp/gate"])
def test_a_lora_of_ours_on_fused_modules(chosen, tmp_path):
    """q, k and v have each their own A: their ranks add up, or the product would be another."""
    params = params_of(PHI3)
    rng = np.random.default_rng(5)
    start = init_lora(jax.random.key(0), params, 2, chosen)
    lora = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), start)
    save_adapter(tmp_path / "out", PHI3, Adapter(lora, 2, 5.0), base="x")
    again = load_adapter(tmp_path / "out", PHI3)
    want, got = (merge(params, x.lora, x.scale) for x in (Adapter(lora, 2, 5.0), again))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
    jax.tree.map(close, got, want)


def test_bfloat16_export(tmp_path):
    lora = jax.tree.map(jnp.ones_like, init_lora(jax.random.key(0), params_of(LLAMA), 2, "mlp/up"))
    save_adapter(tmp_path / "out", LLAMA, Adapter(lora, 2, 4.0), base="x", dtype="bfloat16")
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {x.dtype for x in found.values()} == {np.dtype(ml_dtypes.bfloat16)}
    same_tree(load_adapter(tmp_path / "out", LLAMA).lora, jax.tree.map(np.asarray, lora))
    with pytest.raises(InputError, match="dtype 'float64' is not supported"):
        save_adapter(tmp_path / "other", LLAMA, Adapter(lora, 2, 4.0), base="x", dtype="float64")


UP = {"r": 3, "lora_alpha": 3, "target_modules": ["up_proj"]}
SCORE = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "LOHA"}, 'peft_type = "LOHA" is not supported; only "LORA"'),
        ({"peft_type": None}, 'peft_type = null is not supported; only "LORA"'),
        ({"task_type": "TOKEN_CLS"}, 'task_type = "TOKEN_CLS" is not supported'),
        ({"use_dora": True}, "use_dora = true is not supported; only false"),
        ({"bias": "lora_only"}, 'bias = "lora_only" is not supported; only "none"'),
        ({"fan_in_fan_out": True}, "fan_in_fan_out = true is not supported"),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights = "pissa" is not supported'),
        ({"layers_pattern": "h"}, 'layers_pattern = "h" is not supported'),
        ({"lora_bias": True}, "lora_bias = true is not supported; leave it out"),
        ({"layer_replication": [[0, 2]]}, "layer_replication = .* is not supported"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices = .* is not supported"),
        ({"target_parameters": ["x"]}, "target_parameters = .* is not supported"),
        ({"modules_to_save": ["lm_head"]}, 'modules_to_save: "lm_head" is not read'),
        ({"modules_to_save": ["score"]}, 'modules_to_save: "score" is not read'),
        ({"task_type": "SEQ_CLS"}, 'modules_to_save: expected \\["score"\\]'),
        ({**SCORE, "modules_to_save": ["score", "lm_head"]}, '"lm_head" is not read'),
        (SCORE, r"tensor base_model.model.score.weight is missing \(expected shape \[1, 12\]\)"),
        ({"r": 0}, "r: expected a positive int, found 0"),
        ({"lora_alpha": "8"}, 'lora_alpha: expected a positive float, found "8"'),
        ({"rank_pattern": {"up_proj": 0.5}}, "rank_pattern: up_proj: expected a positive int"),
        ({"alpha_pattern": {"up_proj": None}}, "alpha_pattern: up_proj: expected a positive float"),
        ({"alpha_pattern": ["up_proj"]}, "alpha_pattern: expected an object"),
        ({"rank_pattern": {"(": 2}}, r"rank_pattern: '\(': .*; fix it"),
        ({"target_modules": None}, "target_modules: expected a list of names or a regular"),
        ({"target_modules": [3]}, "target_modules: expected a list of names or a regular"),
        ({"target_modules": "("}, r"target_modules: '\(': .*; fix it"),
        ({"target_modules": ["c_attn"]}, r'target_modules: \["c_attn"\] names no module of the '
         "base, which has k_proj, .*; is it another base"),
        ({"target_modules": "up_proj"}, 'target_modules: "up_proj" names no module of the base'),
        ({"layers_to_transform": "1"}, "layers_to_transform: expected numbers"),
        ({"layers_to_transform": [1], "target_modules": ".*up_proj"}, "layers_to_transform: "),
        ({"r": 4}, r"0.mlp.up_proj.lora_A.weight: expected shape \[4, 12\], found \[3, 12\]"),
        ({"target_modules": ["up_proj", "q_proj"]}, "self_attn.q_proj.lora_A.weight is missing"),
        ({"layers_to_transform": [0, 1]}, r"layers.2.mlp.up_proj.lora_A.weight \[3, 12\] has no "
         r"place in this model \(2 such tensors\)"),
    ],
)  # fmt: skip
def test_what_is_refused(fields, message, tmp_path):
    write(tmp_path, everywhere("mlp.up_proj"), **{**UP, **fields})
    with pytest.raises(InputError, match=message) as error:
        load_adapter(tmp_path, LLAMA)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_another_base(tmp_path):
    write(tmp_path, everywhere("mlp.up_proj"), **UP)
    wider = DecoderConfig(**{**SHAPE, "d_ff": FF + 2})
    with pytest.raises(InputError, match=r"on this base: tensor .*layers.0.mlp.up_proj.lora_B.weig"
                       r"ht: expected shape \[22, 3\], found \[20, 3\]"):  # fmt: skip
        load_adapter(tmp_path, wider)
    longer = DecoderConfig(**{**SHAPE, "n_layers": LAYERS + 1})
    with pytest.raises(InputError, match=r"layers.3.mlp.up_proj.lora_A.weight is missing"):
        load_adapter(tmp_path, longer)
    with pytest.raises(InputError, match="names no module of the base, which has qkv_proj"):
        load_adapter(tmp_path, PHI3)


def test_files_that_are_damaged_or_missing(tmp_path):
    write(tmp_path, everywhere("mlp.up_proj"), **UP)
    file = tmp_path / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(InputError, match=r"adapter_model.safetensors: damaged or truncated"):
        load_adapter(tmp_path, LLAMA)
    file.unlink()
    with pytest.raises(InputError, match=r"holds no adapter_model.safetensors"):
        load_adapter(tmp_path, LLAMA)
    write(tmp_path, everywhere("mlp.up_proj"), dtype=np.int32, **UP)
    with pytest.raises(InputError, match=r"lora_A.weight is I32; only F32"):
        load_adapter(tmp_path, LLAMA)
