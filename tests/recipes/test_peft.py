"""Runs that start from an adapter of PEFT, and runs that export one."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from irl_jax.__main__ import main
from irl_jax.data.jsonl import GroupRecord
from irl_jax.models import pretrained
from irl_jax.models.decoder import forward, init_params, logits
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.models.lora import init_lora, merge
from irl_jax.models.mesh import make_mesh
from irl_jax.models.peft_files import Adapter, load_adapter, save_adapter
from irl_jax.models.pretrained import load_pretrained
from irl_jax.models.reward_files import load_reward_model, save_reward_model
from irl_jax.recipes.align_config import AlignConfig
from irl_jax.recipes.export import adapter_base
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.published import in_log_odds
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.reward_model import IRL
from irl_jax.recipes.scorers import identity, learned_scorer
from irl_jax.train.checkpoint import load_params
from irl_jax.train.inputs import sha256_of
from irl_jax.train.progress import Progress
from irl_jax.types import InputError
from tests.recipes.test_commands import SAMPLED, launch

EXTRA = 'needs pip install "irl_jax[parity]"'
QUIET = Progress(io.StringIO())
GROUPS = [
    GroupRecord("say a u", ["good kind", "weak dull", "fine good kind"], {}, "x:1"),
    GroupRecord([{"role": "user", "content": "say b x"}], ["poor", "kind"], {}, "x:2"),
]


def scores(path: Path) -> np.ndarray:
    found = learned_scorer(str(path), ReadConfig(batch_size=2), path, QUIET)(GROUPS)
    return np.concatenate(found)


def edit(directory: Path, **fields) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def adapter_dir(small_model_dir, tmp_path) -> Path:
    """A LoRA with both factors away from zero, without a tokenizer."""
    config, params = load_huggingface(small_model_dir)
    rng = np.random.default_rng(0)
    start = init_lora(jax.random.key(0), params, 2, "attn|mlp")
    lora = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), start)
    place = tmp_path / "lora"
    save_adapter(place, config, Adapter(lora, 2, 3.0), base=str(small_model_dir))
    return place


def same(left, right) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_it_is_merged_into_its_base(adapter_dir, small_model_dir):
    config, params = load_huggingface(small_model_dir)
    adapter = load_adapter(adapter_dir, config)
    found, merged = load_pretrained(adapter_dir)
    assert found == config and isinstance(merged["embed"]["embedding"], np.ndarray)
    same(merged, jax.tree.map(np.asarray, merge(params, adapter.lora, 1.5)))
    assert np.abs(merged["layers"]["mlp"]["up"]["kernel"]
                  - params["layers"]["mlp"]["up"]["kernel"]).max() > 0.1  # fmt: skip


def test_on_a_mesh(adapter_dir, small_model_dir):
    """Parameters lie where those of the base do, and are the same."""
    mesh = make_mesh(1)
    _, base = load_pretrained(small_model_dir, mesh)
    _, found = load_pretrained(adapter_dir, mesh)
    jax.tree.map(lambda x, y: np.testing.assert_equal(x.sharding, y.sharding), found, base)
    _, want = load_pretrained(adapter_dir)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, want)
    with_head(adapter_dir, small_model_dir, 1)
    leaf = load_reward_model(adapter_dir, mesh).params["layers"]["mlp"]["up"]["kernel"]
    assert leaf.sharding == base["layers"]["mlp"]["up"]["kernel"].sharding
    np.testing.assert_allclose(leaf, want["layers"]["mlp"]["up"]["kernel"], atol=1e-6)


def test_tokenizer_and_ends_are_those_of_the_base(adapter_dir, small_model_dir):
    load = lambda path: load_language_model(
        str(path), Path(), seed=0, dtype="float32", progress=QUIET
    )
    base, found = load(small_model_dir), load(adapter_dir)
    assert found.tokenizer.vocab_size == base.tokenizer.vocab_size
    assert found.config == base.config and found.eos_ids == base.eos_ids
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if (small_model_dir / name).is_file():
            shutil.copy(small_model_dir / name, adapter_dir)
    file = adapter_dir / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "own"}))
    assert load(adapter_dir).tokenizer.chat_template == "own"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("o/none", '"o/none" is no directory here; hf://o/none@v2: no such repository'),
        ("../none", '"../none" is no directory here, nor a name on the hub; write that'),
        (None, "null is no directory here, nor a name"),
        ("", '"" is no directory here, nor a name'),
        ("lora", "is an adapter, too; merge it first"),
    ],
)
def test_a_base_that_is_not_there(base, message, adapter_dir, monkeypatch, tmp_path):
    def fetch(name):
        raise InputError(f"{name}: no such repository")

    monkeypatch.setattr(pretrained, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    edit(adapter_dir, base_model_name_or_path=base, revision="v2")
    for read in (load_pretrained, lambda path: sha256_of(path, "model")):
        with pytest.raises(InputError, match=f"base_model_name_or_path: .*{message}") as error:
            read(adapter_dir)
        assert str(adapter_dir / "adapter_config.json") in str(error.value)


def test_a_base_beside_the_adapter(adapter_dir, small_model_dir, tmp_path, monkeypatch):
    """Relative to the adapter; what the working directory has of that name comes first."""
    _, want = load_pretrained(adapter_dir)
    shutil.copytree(small_model_dir, tmp_path / "base")
    edit(adapter_dir, base_model_name_or_path="../base")
    same(load_pretrained(adapter_dir)[1], want)
    monkeypatch.chdir(tmp_path)
    edit(adapter_dir, base_model_name_or_path="base")
    same(load_pretrained(adapter_dir)[1], want)


@pytest.mark.parametrize(
    ("base", "revision", "wanted"),
    [
        ("o/small", None, "hf://o/small"),
        ("hf://o/small", "v2", "hf://o/small@v2"),
        ("o/small@v1", "v2", "hf://o/small@v1"),
    ],
)
def test_a_base_on_the_hub(
    base, revision, wanted, adapter_dir, small_model_dir, tmp_path, monkeypatch
):
    """As PEFT names it."""
    _, want = load_pretrained(adapter_dir)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "fetch", lambda name: {wanted: small_model_dir}[name])
    edit(adapter_dir, base_model_name_or_path=base, revision=revision)
    same(load_pretrained(adapter_dir)[1], want)


def test_a_wrong_base_is_one_line_and_status_2(
    adapter_dir, small_model_dir, files, tmp_path, capsys
):
    config, _ = load_huggingface(small_model_dir)
    wider = dataclasses.replace(config, d_ff=config.d_ff + 2)
    save_huggingface(tmp_path / "wide", wider, init_params(wider, jax.random.key(0)))
    edit(adapter_dir, base_model_name_or_path=str(tmp_path / "wide"))
    shutil.copy(Path(files["pairs"]), tmp_path / "pairs.jsonl")
    with pytest.raises(SystemExit) as stop:
        main(["align", "--loss", "dpo", "--model", str(adapter_dir), "--data.path",
              str(tmp_path / "pairs.jsonl"), "--run-dir", str(tmp_path / "run")])  # fmt: skip
    assert stop.value.code == 2 and not (tmp_path / "run" / "config.json").exists()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"tensor base_model\S+down_proj.lora_A.weight: expected shape", said)


def test_identity_is_of_adapter_and_base(adapter_dir, small_model_dir, tmp_path):
    own = tmp_path / "base"
    shutil.copytree(small_model_dir, own)
    edit(adapter_dir, base_model_name_or_path="../base")
    digests = [sha256_of(adapter_dir, "model")]
    weights = adapter_dir / "adapter_model.safetensors"
    (adapter_dir / "training_args.bin").write_bytes(b"unread")
    assert sha256_of(adapter_dir, "model") == digests[0]
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    digests.append(sha256_of(adapter_dir, "model"))
    weights.write_bytes(whole)
    file = own / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    digests.append(sha256_of(adapter_dir, "model"))
    edit(adapter_dir, lora_alpha=4.0)
    digests.append(sha256_of(adapter_dir, "model"))
    assert len(set(digests)) == 4


def test_a_policy_starts_from_an_adapter_and_is_exported_as_one(
    files, small_model_dir, tmp_path, capsys
):
    """Both exports of one training are the same model, and one can be trained on and sampled."""
    runs = {}
    for kind in ("adapter", "merged"):
        runs[kind] = tmp_path / kind
        args = ["--loss", "dpo", "--export", kind]
        summary = launch("align", files["pairs"], small_model_dir, runs[kind], *args)
    plain, merged = (load_pretrained(runs[k] / "export")[1] for k in ("adapter", "merged"))
    close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6)
    jax.tree.map(close, plain, merged)
    base = flatten_dict(load_huggingface(small_model_dir)[1])
    assert any(np.abs(x - base[path]).max() > 1e-3 for path, x in flatten_dict(plain).items())
    export = runs["adapter"] / "export"
    summary = json.loads((runs["adapter"] / "summary.json").read_text())
    assert {"export/adapter_config.json", "export/adapter_model.safetensors",
            "export/tokenizer_config.json"} <= set(summary["exported"])  # fmt: skip
    fields = json.loads((export / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == str(small_model_dir)
    assert (fields["r"], fields["lora_alpha"], fields["task_type"]) == (4, 32.0, "CAUSAL_LM")
    assert fields["rank_pattern"] == fields["alpha_pattern"] == {}
    card = (export / "README.md").read_text()
    assert "library_name: peft" in card and "PeftModel.from_pretrained" in card
    assert "--export=adapter" in card
    again = launch("sft", files["demonstrations"], export, tmp_path / "again", "--export", "merged")
    assert Path(again["export"]).is_dir()
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["sha256"]["model"] == sha256_of(export, "model")
    run = str(runs["adapter"])
    main(["sample", "--model", run, "--prompt", "say a u", "--max-new-tokens", "4"])
    assert "say a u" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        args = ["--loss", "dpo", "--export", "adapter"]
        launch("align", files["pairs"], export, tmp_path / "no", *args)
    assert "is a LoRA itself; give --export merged" in capsys.readouterr().err
    assert not (tmp_path / "no" / "config.json").exists()


def test_every_weight_is_no_adapter(files, small_model_dir, tmp_path, capsys):
    args = ["--loss", "dpo", "--export", "adapter", "--train", "full"]
    with pytest.raises(SystemExit):
        launch("align", files["pairs"], small_model_dir, tmp_path / "run", *args)
    assert "export: adapter is of a LoRA; give --train lora" in capsys.readouterr().err


def test_a_reward_is_exported_as_an_adapter(files, small_model_dir, tmp_path):
    """It scores as the run, bias and all; members have directories of their own."""
    run_dir = tmp_path / "run"
    args = ["--loss", "regression", "--ensemble.members", "2", "--export", "adapter"]
    launch("reward", files["stars"], small_model_dir, run_dir, *args)
    members = [run_dir / "export" / f"member_{m}" for m in (1, 2)]
    each = np.array([scores(path) for path in members])
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(each.mean(0), scores(run_dir), atol=1e-5)
    own = json.loads((members[0] / "irl_jax.json").read_text())
    assert own["bias"] != 0.0 and own["log_odds"] is False and own["label"] == "reward"
    assert "library_name: peft" in (members[1] / "README.md").read_text()
    assert identity(str(members[0]), "learned") != identity(str(members[1]), "learned")
    found = load_reward_model(members[0])
    assert found.labels == ("reward",) and found.pad_token_id == own["pad_token_id"]
    with pytest.raises(InputError, match="is a LoRA of a reward model, no language model"):
        load_pretrained(members[0])


def test_irl_exports_the_lora_of_its_policy(files, small_model_dir, tmp_path):
    run_dir = tmp_path / "run"
    args = ["--loss", "gail", "--export", "adapter", *SAMPLED]
    launch("irl", files["demonstrations"], small_model_dir, run_dir, *args)
    config, _ = load_huggingface(small_model_dir)
    found = load_adapter(run_dir / "export", config)
    same(found.lora, load_params(run_dir / "checkpoints" / IRL)["policy"])
    assert found.scale == 8.0 and np.abs(found.lora["layers"]["mlp"]["up"]["b"]).max() > 0.0


def with_head(adapter_dir: Path, small_model_dir: Path, rows: int) -> np.ndarray:
    """Makes the adapter a reward model's; returns its head."""
    config, _ = load_huggingface(small_model_dir)
    head = np.random.default_rng(3).normal(size=(rows, config.d_model)).astype(np.float32)
    adapter = load_adapter(adapter_dir, config)._replace(head=head)
    shutil.rmtree(adapter_dir)
    save_adapter(adapter_dir, config, adapter, base=str(small_model_dir))
    return head


def test_a_reward_model_without_what_a_run_knows(adapter_dir, small_model_dir, tmp_path):
    """Labels are numbered, and the token that pads is the base's."""
    with pytest.raises(InputError, match=r"is a LoRA of a language model, no reward model"):
        load_reward_model(adapter_dir)
    head = with_head(adapter_dir, small_model_dir, 3)
    found = load_reward_model(adapter_dir)
    assert found.labels == ("LABEL_0", "LABEL_1", "LABEL_2") and found.own == {}
    np.testing.assert_array_equal(found.head["kernel"], head.T)
    assert found.config.tie_embeddings and found.pad_token_id is None
    config, base = load_huggingface(small_model_dir)
    adapter = load_adapter(adapter_dir, found.config)
    want = jax.tree.map(np.asarray, merge(base, adapter.lora, adapter.scale))
    same(found.params["layers"], want["layers"])
    untied = dataclasses.replace(config, tie_embeddings=False)
    save_huggingface(tmp_path / "untied", untied, init_params(untied, jax.random.key(0)))
    edit(adapter_dir, base_model_name_or_path=str(tmp_path / "untied"))
    found = load_reward_model(adapter_dir)
    assert found.config.tie_embeddings and "unembed" not in found.params


def test_a_reward_model_on_a_reward_model(adapter_dir, small_model_dir, tmp_path):
    """Labels and the token that pads are those of the base; its head is not."""
    config, params = load_huggingface(small_model_dir)
    save_reward_model(
        tmp_path / "rm", config, params, np.ones(config.d_model), label="quality", pad_token_id=3
    )
    head = with_head(adapter_dir, small_model_dir, 1)
    edit(adapter_dir, base_model_name_or_path="../rm")
    found = load_reward_model(adapter_dir)
    assert found.labels == ("quality",) and found.pad_token_id == 3
    np.testing.assert_array_equal(found.head["kernel"], head[0])
    assert in_log_odds(adapter_dir)
    with_head(adapter_dir, small_model_dir, 2)
    edit(adapter_dir, base_model_name_or_path="../rm")
    with pytest.raises(InputError, match="2 rows for the labels quality; is it another base"):
        load_reward_model(adapter_dir)


def test_the_base_of_an_export(tmp_path):
    """The tiny model belongs to its run, which may move."""
    config = AlignConfig(model="tiny", run_dir=tmp_path, seed=3)
    assert adapter_base(config, tmp_path / "export") == "../tiny_3"
    assert adapter_base(config, tmp_path / "export" / "member_1") == "../../tiny_3"
    named = dataclasses.replace(config, model="models/small")
    assert adapter_base(named, tmp_path / "export") == "models/small"


def test_peft_loads_what_runs_export(files, small_model_dir, tmp_path):
    """Logits of the policy, and scores of the reward without its bias."""
    peft = pytest.importorskip("peft", reason=EXTRA)
    transformers = pytest.importorskip("transformers", reason=EXTRA)
    torch = pytest.importorskip("torch", reason=EXTRA)
    args = ["--export", "adapter", "--lora.targets", "attn/[qv]|mlp/down", "--loss"]
    launch("align", files["pairs"], small_model_dir, tmp_path / "policy", *args, "dpo")
    launch("reward", files["pairs"], small_model_dir, tmp_path / "reward", *args, "bradley_terry")
    tokens = np.arange(1, 25).reshape(2, 12)
    models = {}
    for name, kind in (("policy", "CausalLM"), ("reward", "SequenceClassification")):
        options = {} if name == "policy" else {"num_labels": 1, "pad_token_id": 0}
        load = getattr(transformers, f"AutoModelFor{kind}").from_pretrained
        base = load(small_model_dir, **options).eval()
        models[name] = peft.PeftModel.from_pretrained(base, tmp_path / name / "export").eval()
    with torch.no_grad():
        theirs = {name: m(torch.tensor(tokens)).logits.numpy() for name, m in models.items()}
    config, params = load_pretrained(tmp_path / "policy" / "export")
    ours = logits(config, params, forward(config, params, tokens)[0])
    np.testing.assert_allclose(ours, theirs["policy"], rtol=1e-4, atol=1e-4)
    found = load_reward_model(tmp_path / "reward" / "export")
    last = forward(found.config, found.params, tokens)[0][:, -1]
    np.testing.assert_allclose(last @ found.head["kernel"], theirs["reward"][:, 0], rtol=1e-4,
                               atol=1e-4)  # fmt: skip


def test_irl_jax_score_of_an_adapter(files, small_model_dir, tmp_path):
    run_dir = tmp_path / "run"
    args = ["--loss", "bradley_terry", "--export", "adapter"]
    launch("reward", files["pairs"], small_model_dir, run_dir, *args)
    found = []
    for model in (run_dir, run_dir / "export"):
        place = tmp_path / f"of_{model.name}"
        main(["score", "--model", str(model), "--data", str(files["pairs"]), "--run-dir",
              str(place), "--edits", "4"])  # fmt: skip
        found.append(json.loads((place / "summary.json").read_text()))
    assert found[0]["accuracy"] == found[1]["accuracy"]
    assert found[1]["calibration"] is not None
