from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.preference_to_policy.config import CONFIG, Config, with_losses
from experiments.preference_to_policy.study import main, prepare
from irl_jax.data.batches import collate_preferences
from irl_jax.data.encode import EncodedPreference
from irl_jax.data.kinds import KINDS
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.losses.table import look_up
from irl_jax.models.decoder import forward, logits
from irl_jax.models.lora import attach
from irl_jax.models.pretrained import load_pretrained
from irl_jax.recipes import align as align_recipe
from irl_jax.recipes import reward as reward_recipe
from irl_jax.recipes.align_config import PolicyLearning
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.examples import (
    DataConfig,
    Examples,
    as_text,
    bucket_shapes,
    encode,
    limits,
    read_file,
    read_records,
)
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.options import with_options
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.quality import implicit_rewards, quality
from irl_jax.recipes.reward_config import MembersConfig, RewardLearning
from irl_jax.recipes.reward_model import RewardModel
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.checkpoint import load_params
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, PyTree
from tests.experiments.conftest import (
    POLICIES,
    ROWS,
    as_messages,
    configure,
    learning,
    write_jsonl,
)

PAIRS = KINDS["pairs"]


@pytest.fixture(scope="module")
def grpo(tiny_model_dir, tmp_path_factory) -> Config:
    """A finished run with GRPO, on messages."""
    folder = tmp_path_factory.mktemp("runs")
    path = write_jsonl(folder / "messages.jsonl", [as_messages(row) for row in ROWS])
    config = configure(path, tiny_model_dir, folder / "grpo", policy=POLICIES["grpo"])
    main(config)
    return config


def summary_of(config: Config) -> dict:
    return json.loads((config.run_dir / "summary.json").read_text())


def metrics_of(config: Config, stage: str) -> list[dict]:
    lines = (config.run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["stage"] == stage]


def untimed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


class Killed(BaseException):
    """What nothing catches."""


METHODS = ["dpo", pytest.param("grpo", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", METHODS)
def test_summary(name, request):
    config = request.getfixturevalue(name)
    summary = summary_of(config)
    reward, policy = summary["reward"], summary["policy"]
    assert (reward["loss"], policy["loss"]) == ("bradley_terry", name)
    for found in (reward, policy):
        assert found["examples"] + found["held_out_examples"] == len(ROWS)
        assert found["held_out_examples"] == 2 * found["held_out_prompts"] > 0
    measures = reward["quality"] | policy["implicit"]
    measures |= {key: policy[key] for key in ("reward_before", "reward_after", "reward_gain", "kl")}
    assert {"accuracy", "longer_accuracy"} <= set(measures)
    for key, (estimate, low, high) in measures.items():
        assert low <= estimate <= high, key
    assert reward["quality"]["accuracy"][0] >= 0.9 and reward["members"] is None
    gain = policy["reward_after"][0] - policy["reward_before"][0]
    assert policy["reward_gain"][0] == pytest.approx(gain)
    assert ("accuracy" in policy["implicit"]) == (name == "dpo")
    assert policy["length_before"] > 0 and 0 <= policy["terminated_after"] <= 1
    assert set(summary["seconds"]) == {
        "train the reward", "measure the reward", "train the policy", "measure the policy",
        "export",
    }  # fmt: skip


def test_implicit_accuracy_is_what_the_loss_says_of_held_out_pairs(dpo):
    policy = summary_of(dpo)["policy"]
    assert policy["implicit"]["accuracy"][0] == pytest.approx(
        policy["held_out"]["after"]["accuracy"]
    )


@pytest.mark.parametrize("name", METHODS)
def test_run_directory(name, request):
    config = request.getfixturevalue(name)
    rewards, policy = (metrics_of(config, stage) for stage in ("reward", "policy"))
    train = summary_of(config)["policy"]["examples"]
    assert [row["step"] for row in rewards] == list(range(1, 2 * -(-train // 8) + 1))
    assert len(policy) == (3 if name == "grpo" else -(-train // 8))
    # at the reference: log 2 for DPO, nothing to be gained or penalised for GRPO
    assert policy[0]["loss"] == pytest.approx(np.log(2) if name == "dpo" else 0, abs=1e-4)
    assert {"reward", "kl", "length"} <= set(policy[0]) or name == "dpo"
    samples = [json.loads(x) for x in (config.run_dir / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == summary_of(config)["policy"]["held_out_prompts"]
    assert all(sample["prompt"].startswith("Describe ") for sample in samples)
    page = (config.run_dir / "report.html").read_text()
    assert samples[0]["prompt"] in page and "reward of answers, after - before" in page
    assert "Policy: Results" in page and "Reward: Results" in page
    assert not list(config.run_dir.glob(".*.tmp")) + list(config.run_dir.glob("*.partial"))


def test_every_function_compiles_once(dpo_counted):
    _, counts = dpo_counted
    own = {name: counts[f"jit({name})"] for name in ("step", "generate", "_rewards", "_logp")}
    assert own == {"step": 2, "generate": 1, "_rewards": 1, "_logp": 1}  # reward and policy step


@dataclass(frozen=True)
class Trained:
    """A finished run's pairs and parameters, restored from its checkpoints."""

    training: Training
    pairs: Examples
    reward: PyTree
    adapter: PyTree
    base: PyTree  # on the host
    pair: EncodedPreference  # held out

    def hidden(self, adapter, completion):
        """Last hidden states f32[1, S, D] and tokens of prompt + completion, one sequence."""
        tokens = jnp.array([self.pair.prompt + completion])
        params = attach(self.base, adapter, self.training.lora.scale)
        return forward(self.training.session.model.config, params, tokens)[0], tokens[0]


@pytest.fixture(scope="module")
def trained(dpo, tiny_model_dir) -> Trained:
    settings = json.loads((dpo.run_dir / "config.json").read_text())
    with Progress() as progress, RunDirectory(dpo.run_dir, settings) as run:
        rows = look_up("bradley_terry"), look_up("dpo")
        ready = prepare(dpo, *rows, settings["sha256"]["data.path"], progress)
        reward = reward_recipe.train(dpo.of_reward, ready.reward, run, progress).params
        adapter = align_recipe.train(dpo.of_policy, ready.policy, run, progress)[1]
    base = load_pretrained(tiny_model_dir)[1]
    host = jax.device_get((reward, adapter))
    training, pairs = ready.policy.training, ready.policy.examples
    return Trained(training, pairs, *host, base, pairs.held_out[0])


def batch_of(trained):
    """Eight rows of the pair."""
    pad_id = trained.training.session.model.tokenizer.pad_id
    shape = trained.pairs.shapes[-1]
    return collate_preferences([trained.pair] * 8, shape, pad_id=pad_id)


def test_learned_reward_is_the_head_on_the_last_token(trained):
    expected = []
    for side in (trained.pair.chosen, trained.pair.rejected):
        hidden, _ = trained.hidden(trained.reward["decoder"], side)
        head = trained.reward["head"]
        expected.append(float(hidden[0, -1] @ head["kernel"] + head["bias"]))
    found = RewardModel(trained.training, MembersConfig(), trained.reward)(batch_of(trained))
    np.testing.assert_allclose(found, [expected] * 8, rtol=1e-4, atol=1e-4)


def test_implicit_reward_is_the_log_ratio(trained):
    training, expected = trained.training, []
    for side in (trained.pair.chosen, trained.pair.rejected):
        total = []
        for adapter in (trained.adapter, jax.tree.map(jnp.zeros_like, trained.adapter)):
            hidden, tokens = trained.hidden(adapter, side)
            scores = logits(training.session.model.config, trained.base, hidden)[0, :-1]
            logp = jax.nn.log_softmax(scores)[np.arange(len(tokens) - 1), tokens[1:]]
            total.append(float(logp[-len(side) :].sum()))
        expected.append(total[0] - total[1])
    found = implicit_rewards(training.session, training.merged(trained.adapter), batch_of(trained))
    np.testing.assert_allclose(found, [expected] * 8, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("factor", "margin"), [(0.0, 0.0), (0.5, 2.0)])
def test_margins_count_only_if_told(factor, margin, dpo, trained):
    pairs = replace(trained.pairs, train=[replace(trained.pair, margin=4.0)])
    reward, policy = (replace(own, margin=factor) for own in (dpo.of_reward, dpo.of_policy))
    made = [
        reward_recipe.make_ready(reward, look_up("bradley_terry"), trained.training, pairs),
        align_recipe.make_ready(policy, look_up("dpo"), trained.training, pairs, None),
    ]
    assert [[pair.margin for pair in ready.examples.train] for ready in made] == [[margin]] * 2


def test_accuracy_weighs_pairs_and_resamples_prompts():
    pair = lambda prompt, weight: EncodedPreference([prompt], [1, 2], [3], 0.0, weight, "x:1")
    pairs = [*[pair(1, 1.0)] * 8, pair(2, 24.0), pair(3, 0.0)]
    rewards = np.array([*[[1.0, 0.0]] * 8, [0.0, 1.0], [0.0, 1.0]])
    found = quality(Examples(PAIRS, [], pairs, [], [], [], {}), rewards)
    accuracy = found["accuracy"]
    assert accuracy.estimate == 0.25
    assert (accuracy.low, accuracy.high) == (0.0, 1.0)  # two prompts, one of them all right
    assert found["longer_accuracy"] == (1.0, 1.0, 1.0)


def test_export_is_the_trained_policy(dpo, tiny_model_dir, trained):
    config, exported = load_pretrained(dpo.run_dir / "export")
    assert config == load_pretrained(tiny_model_dir)[0]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(trained.adapter))
    tokens = jnp.arange(40).reshape(2, 20) % config.vocab_size
    scores = lambda params: logits(config, params, forward(config, params, tokens)[0])
    expected = scores(attach(trained.base, trained.adapter, dpo.lora.scale))
    np.testing.assert_allclose(scores(exported), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(scores(exported) - scores(trained.base)).max() > 1e-2
    text = "It is lovely and great."
    kept, own = (Tokenizer.from_directory(d) for d in (dpo.run_dir / "export", tiny_model_dir))
    assert kept.encode(text) == own.encode(text)
    assert kept.chat_template == own.chat_template


@pytest.mark.slow
def test_export_loads_elsewhere(dpo):
    missing = 'torch or transformers is not installed: pip install "irl_jax[parity]"'
    torch = pytest.importorskip("torch", reason=missing)
    transformers = pytest.importorskip("transformers", reason=missing)
    directory = dpo.run_dir / "export"
    config, params = load_pretrained(directory)
    tokens = np.arange(20)[None] % config.vocab_size
    ours = logits(config, params, forward(config, params, jnp.asarray(tokens))[0])
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    theirs = model(torch.tensor(tokens)).logits.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_again_reports_what_is_there(dpo, capsys):
    files = lambda: {p: p.stat().st_mtime_ns for p in dpo.run_dir.rglob("*") if p.name != ".lock"}
    before = files()
    main(dpo)
    out = capsys.readouterr().out
    assert out.startswith(f"{dpo.run_dir}: this run is complete\n")
    assert "paired difference (95 %)" in out and str(dpo.run_dir / "report.html") in out
    assert files() == before


@pytest.mark.parametrize("lost", ["export", "export/model.safetensors", "report.html"])
def test_what_is_gone_is_written_again(lost, dpo, tmp_path, capsys):
    again = replace(dpo, run_dir=shutil.copytree(dpo.run_dir, tmp_path / "run"))
    place = again.run_dir / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    main(again)
    said = capsys.readouterr().out
    assert f"complete, but without {lost}" in said and "; writing it anew\n" in said
    content = lambda config: {p.name: p.read_bytes() for p in (config.run_dir / "export").iterdir()}
    assert content(again) == content(dpo) and place.exists()
    assert untimed(metrics_of(again, "policy")) == untimed(metrics_of(dpo, "policy"))
    main(again)
    assert f"{again.run_dir}: this run is complete\n" in capsys.readouterr().out
    shutil.rmtree(again.run_dir / "checkpoints")
    shutil.rmtree(again.run_dir / "export")
    main(again)  # from nothing that would be another training
    said = capsys.readouterr().out
    assert "export/config.json" in said and "is gone; remove summary.json to have the run" in said
    assert not (again.run_dir / "export").exists()


def test_another_configuration_is_refused(dpo):
    other = with_options(dpo.policy, look_up("dpo"), {"beta": 0.2})
    with pytest.raises(InputError, match=r"policy\.options\.beta was 0\.1, is 0\.2"):
        main(replace(dpo, policy=other))


def test_other_data_is_refused(dpo, tmp_path):
    content = dpo.data.path.read_text()
    try:
        write_jsonl(dpo.data.path, ROWS)
        with pytest.raises(InputError, match=r"^data\.path: \S+ is another one than the run"):
            main(dpo)
    finally:
        dpo.data.path.write_text(content)


def other_weights(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, directory / "model.safetensors")


def other_end(directory: Path) -> None:
    """What ends a completion is written in another file than the weights."""
    (directory / "generation_config.json").write_text('{"eos_token_id": [2, 3]}')


def other_template(directory: Path) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ messages[0].content }}"
    (directory / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change", [other_weights, other_end, other_template])
def test_a_run_does_not_go_on_with_another_model(
    change, mixed, tiny_model_dir, tmp_path, monkeypatch
):
    """The directory behind --model was replaced between two launches."""
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    config = configure(mixed, model, tmp_path / "run")

    def stop(*args, **kwargs):
        (config.run_dir / "checkpoints").mkdir(exist_ok=True)
        (config.run_dir / "checkpoints" / "one").touch()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(reward_recipe, "learn", stop)
        with pytest.raises(Killed):
            main(config)
        (model / "README.md").write_text("read by people only")
        with pytest.raises(Killed):
            main(config)
        change(model)
        with pytest.raises(InputError) as caught:
            main(config)
    assert re.fullmatch(
        r"model: \S+/model is another one than the run in \S+/run began with "
        r"\(sha256\.model was \w{12}\.\.\., is \w{12}\.\.\.\); restore it, or choose another run "
        r"directory, or remove this one to begin anew",
        str(caught.value),
    )


def test_inputs_may_move_and_saves_be_rarer(dpo, tmp_path, capsys):
    """What is told by its content may lie elsewhere; how often is saved decides nothing."""
    moved = replace(
        dpo,
        run_dir=shutil.copytree(dpo.run_dir, tmp_path / "run"),
        data=replace(dpo.data, path=Path(shutil.copy(dpo.data.path, tmp_path / "other.jsonl"))),
        model=str(shutil.copytree(dpo.model, tmp_path / "model")),
        save_every=2,
    )
    main(moved)
    assert "this run is complete" in capsys.readouterr().out
    (moved.run_dir / "summary.json").unlink()
    main(moved)  # from its last checkpoints
    config = json.loads((moved.run_dir / "config.json").read_text())
    assert config["model"] == moved.model and config["save_every"] == 2
    assert untimed(metrics_of(moved, "policy")) == untimed(metrics_of(dpo, "policy"))


def test_a_run_of_before_inputs_were_told_by_content_is_refused(dpo, tmp_path):
    """Its configuration does not say what it began with."""
    old = replace(dpo, run_dir=shutil.copytree(dpo.run_dir, tmp_path / "run"))
    config = json.loads((old.run_dir / "config.json").read_text())
    del config["sha256"]
    (old.run_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"another configuration \(sha256 was absent, is "):
        main(old)


@pytest.mark.parametrize(
    ("method", "stage", "how"),
    [
        ("dpo", "policy", "kill"),
        pytest.param("dpo", "reward", "sigterm", marks=pytest.mark.slow),
        pytest.param("grpo", "policy", "kill", marks=pytest.mark.slow),
        pytest.param("grpo", "policy", "sigterm", marks=pytest.mark.slow),
    ],
)
def test_resumed_is_the_same_to_the_bit(method, stage, how, request, tmp_path, monkeypatch):
    whole = request.getfixturevalue(method)
    config = replace(whole, run_dir=tmp_path / "run")
    log = RunDirectory.log

    def interrupted(self, step, metrics, at="train"):
        log(self, step, metrics, at)
        if (at, step) == (stage, 2):
            if how == "kill":
                raise Killed
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "log", interrupted)
        with pytest.raises(Killed if how == "kill" else SystemExit):
            main(config)
    assert not (config.run_dir / "export").exists()
    assert not (config.run_dir / "summary.json").exists()
    main(config)
    for name in ("reward", "policy"):
        assert untimed(metrics_of(config, name)) == untimed(metrics_of(whole, name))
    weights = lambda c: (c.run_dir / "export" / "model.safetensors").read_bytes()
    assert weights(config) == weights(whole)
    of_itself = ("seconds", "export", "report")  # durations and places
    same = lambda found: {k: v for k, v in found.items() if k not in of_itself}
    one, other = (summary_of(c) for c in (config, whole))
    assert same(one) | {"policy": same(one["policy"])} == (
        same(other) | {"policy": same(other["policy"])}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_eight_devices_do_what_one_does(name, request, tmp_path):
    one = request.getfixturevalue(name)
    many = replace(one, run_dir=tmp_path / "run", mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    main(many)
    for stage in ("reward", "policy"):
        for a, b in zip(metrics_of(one, stage), metrics_of(many, stage), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_without_a_model_of_ones_own(mixed, tmp_path):
    config = configure(mixed, Path("tiny"), tmp_path / "run")
    main(replace(config, data=replace(config.data, buckets=2), export_dtype="bfloat16"))
    assert (config.run_dir / "export" / "config.json").exists()
    assert summary_of(config)["reward"]["quality"]["accuracy"][0] > 0.9


@pytest.mark.slow
def test_other_losses_other_data_and_every_weight(tiny_model_dir, tmp_path):
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in ROWS
        for side in ("chosen", "rejected")
    ]
    config = configure(
        write_jsonl(tmp_path / "ratings.jsonl", rows),
        tiny_model_dir,
        tmp_path / "run",
        reward=learning(RewardLearning, "binary_cross_entropy", lr=2e-2, epochs=2, batch_size=16),
        policy=learning(PolicyLearning, "kto", lr=1e-3, batch_size=16, train="full"),
    )
    main(config)
    summary = summary_of(config)
    for order in (summary["reward"]["quality"], summary["policy"]["implicit"]):
        assert set(order) == {"spearman", "auc"}
    trained = lambda stage: load_params(config.run_dir / "checkpoints" / stage)
    base = load_pretrained(tiny_model_dir)[1]
    assert jax.tree.structure(trained("policy")) == jax.tree.structure(base)  # of every weight
    size = lambda params: sum(x.size for x in jax.tree.leaves(params))
    assert size(trained("reward")) < size(base) / 2  # of a LoRA and a head


def flags(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "options":  # `irl-jax losses NAME` explains them
            continue
        if is_dataclass(value):
            yield from flags(value, f"{prefix}{field.name}.")
        else:
            yield f"--{prefix}{field.name}".replace("_", "-")


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(pytest.fail, with_losses(CONFIG, []), description="", args=["--help"])
    assert not stop.value.code
    text = " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split())
    assert "--policy.loss.beta FLOAT" in text and "--reward.loss.centering FLOAT" in text
    for name in flags(CONFIG):
        found = re.search(rf" {name}(?:, --\S+)? (.*?)\(default: ", text)
        assert found and len(found[1].split()) >= 3, name


def test_buckets_hold_every_pair():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, (500, 2))
    for count in (1, 2, 4):
        shapes = bucket_shapes(lengths, count, (99, 120))
        assert len(shapes) <= count
        assert shapes[-1] == (min(-(-lengths[:, 0].max() // 8) * 8, 99),
                              -(-lengths[:, 1].max() // 8) * 8)  # fmt: skip
        assert (lengths <= shapes[-1]).all()
    assert bucket_shapes(np.full((5, 2), 16), 3, (64, 64)) == [(16, 16)]


def test_limits_come_from_the_context():
    assert limits(DataConfig(), 128) == (64, 64)
    assert limits(DataConfig(), 8192) == (512, 512)
    assert limits(DataConfig(max_prompt=100, max_completion=28), 128) == (100, 28)
    with pytest.raises(InputError, match=r"data\.max_prompt 100 .* context of 128"):
        limits(DataConfig(max_prompt=100), 128)


def test_prompts_are_split_and_counted_once(mixed, tiny_model_dir, tmp_path):
    config, params = load_pretrained(tiny_model_dir)
    model = LanguageModel(config, params, Tokenizer.from_directory(tiny_model_dir))
    data = DataConfig(path=mixed, held_out=0.25)
    pairs = encode(
        data, PAIRS, model, *read_records(data, PAIRS, model.tokenizer, tmp_path, seed=0)
    )
    text = lambda prompts: [as_text(prompt.record.prompt) for prompt in prompts]
    train, held_out = text(pairs.train_prompts), text(pairs.held_out_prompts)
    assert sorted(train + held_out) == sorted({row["prompt"] for row in ROWS})
    assert {repr(p.prompt) for p in pairs.train}.isdisjoint(repr(p.prompt) for p in pairs.held_out)


def test_a_prompt_is_on_one_side_in_whatever_form(tiny_model_dir, tmp_path):
    """Every prompt once as a string and once as messages: what is held out is not learned."""
    forms = [form(row) for row in ROWS[::2] for form in (dict, as_messages)]
    config, params = load_pretrained(tiny_model_dir)
    model = LanguageModel(config, params, Tokenizer.from_directory(tiny_model_dir))
    data = DataConfig(path=write_jsonl(tmp_path / "both.jsonl", forms), held_out=0.25)
    train, held_out = read_records(data, PAIRS, model.tokenizer, tmp_path / "data", seed=0)
    assert len(held_out) and not {as_text(r.prompt) for r in train} & {
        as_text(r.prompt) for r in held_out
    }
    pairs = encode(data, PAIRS, model, train, held_out)
    assert {tuple(p.prompt) for p in pairs.train}.isdisjoint(
        tuple(p.prompt) for p in pairs.held_out
    )
    assert len(pairs.train) + len(pairs.held_out) == len(forms)


def test_a_prompt_that_is_trained_on_once_cut_is_not_held_out(tiny_model_dir, tmp_path):
    """Prompts that end alike are one prompt to a model that sees only their last tokens."""
    rows = [{**row, "prompt": f"{i} {ROWS[0]['prompt']}"} for i, row in enumerate(ROWS)]
    rows += [{**ROWS[2], "prompt": f"the {i}"} for i in range(24)]
    path = write_jsonl(tmp_path / "cut.jsonl", rows)
    config, params = load_pretrained(tiny_model_dir)
    model = LanguageModel(config, params, Tokenizer.from_directory(tiny_model_dir))
    data = DataConfig(path=path, held_out=0.25, max_prompt=8, overlong="truncate")
    train, held_out = read_records(data, PAIRS, model.tokenizer, tmp_path / "data", seed=0)
    pairs = encode(data, PAIRS, model, train, held_out)
    assert {tuple(p.prompt) for p in pairs.train}.isdisjoint(
        tuple(p.prompt) for p in pairs.held_out
    )
    gone = pairs.left_out["held out, but of a prompt that is trained on"]
    assert gone == len(held_out) - len(pairs.held_out) > 0


def test_pairs_that_become_equal_are_ties_and_counted(tiny_model_dir, tmp_path):
    """Three pairs equal as text, five once cut to six tokens, of 48."""
    rows = [dict(row) for row in ROWS]
    for row in rows[:3]:
        row["rejected"] = row["chosen"]
    for row in rows[10:15]:
        row["chosen"] = "It is great and " + row["chosen"]
        row["rejected"] = "It is great and " + row["rejected"]
    path = write_jsonl(tmp_path / "ties.jsonl", rows)
    config, params = load_pretrained(tiny_model_dir)
    model = LanguageModel(config, params, Tokenizer.from_directory(tiny_model_dir))
    data = DataConfig(path=path, held_out=0.25, max_completion=4, overlong="truncate", ties="drop")
    read, equal = read_file(data, PAIRS)
    records = read_records(data, PAIRS, model.tokenizer, tmp_path / "data", seed=0)
    assert read == sorted(
        [*records[0], *records[1]], key=lambda r: int(r.source.rpartition(":")[2])
    )
    pairs = encode(data, PAIRS, model, *records, equal=equal)
    assert equal == 3 and pairs.left_out["with equal sides"] == 8
    assert len(pairs.train) + len(pairs.held_out) == len(ROWS) - 8
    assert all(pair.chosen != pair.rejected for pair in [*pairs.train, *pairs.held_out])
    with pytest.raises(InputError, match=r"ties\.jsonl:1: `chosen` equals `rejected`"):
        read_file(replace(data, ties="error"), PAIRS)
    with pytest.raises(InputError, match=r"ties\.jsonl:\d+: .* are the same tokens, rendered"):
        encode(replace(data, ties="error"), PAIRS, model, *records)


def test_a_model_without_a_template_takes_dialogues_only_if_told(tiny_model_dir, tmp_path):
    path = write_jsonl(tmp_path / "messages.jsonl", [as_messages(row) for row in ROWS])
    config, params = load_pretrained(tiny_model_dir)
    tokenizer = replace(Tokenizer.from_directory(tiny_model_dir), chat_template=None)
    model = LanguageModel(config, params, tokenizer)
    data = DataConfig(path=path, held_out=0.25)
    records = read_records(data, PAIRS, tokenizer, tmp_path, seed=0)
    with pytest.raises(InputError, match=r"messages\.jsonl:\d+: .*--data\.chat dialogue"):
        encode(data, PAIRS, model, *records)
    pairs = encode(replace(data, chat="dialogue"), PAIRS, model, *records)
    assert tokenizer.decode(pairs.train[0].prompt).startswith("\n\nHuman: Describe ")
    assert tokenizer.decode(pairs.train[0].prompt).endswith("\n\nAssistant:")


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Hi", "Hi"),
        ([{"role": "user", "content": "Hi"}], "Hi"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
         "system: Be brief.\nuser: Hi"),
    ],
)  # fmt: skip
def test_prompts_to_be_read_by_people(prompt, text):
    assert as_text(prompt) == text
