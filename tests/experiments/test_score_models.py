"""Rewards that a model gives: a run's reward model, or a likelihood; and a user's mistakes."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.kinds import KINDS
from irl_jax.files import as_json
from irl_jax.models.decoder import forward
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.lora import attach
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.examples import DataConfig, read_records
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.score import main, read
from irl_jax.recipes.score_config import CONFIG
from irl_jax.recipes.scorers import (
    ReadConfig,
    characters,
    identity,
    in_log_odds,
    learned_scorer,
    likelihood_scorer,
)
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.inputs import identities
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from irl_jax.train.state import TrainState
from irl_jax.types import InputError
from tests.experiments.conftest import ROWS, as_messages, complaint, configure, write_jsonl
from tests.experiments.test_score import summary_of

QUIET = Progress(io.StringIO())

PAIRS = KINDS["pairs"]


def groups() -> list[GroupRecord]:
    """Prompts as text and as messages, with two to five responses each."""
    found = []
    for i, count in enumerate((2, 5, 3, 2)):
        rows = ROWS[2 * i : 2 * i + 5]
        texts = [row[side] for row in rows for side in ("chosen", "rejected")][:count]
        prompt = ROWS[2 * i]["prompt"]
        if i % 2:
            prompt = [{"role": "user", "content": prompt}]
            texts = [[{"role": "assistant", "content": text}] for text in texts]
        found.append(GroupRecord(prompt, texts, {}, f"x:{i}"))
    return found


@pytest.fixture(scope="module")
def model(tiny_model_dir, tmp_path_factory):
    return load_language_model(
        str(tiny_model_dir), tmp_path_factory.mktemp("m"), seed=0, dtype="float32", progress=QUIET
    )


def one_by_one(model, params, value) -> list[list[float]]:
    """value(hidden f[S, D], tokens i[S], tokens of the response) of each, read on its own."""
    encoder = model.encoder(max_prompt=64, max_completion=64)
    read = jax.jit(lambda params, tokens: forward(model.config, params, tokens)[0])
    found = []
    for group in groups():
        (encoded,) = encoder.groups([group])
        found.append([])
        for ids in encoded.completions:
            tokens = np.array(encoded.prompt + ids)
            padded = np.zeros((1, 64), np.int32)  # what follows is not seen
            padded[0, : len(tokens)] = tokens
            hidden = np.asarray(read(params, padded))[0, : len(tokens)]
            found[-1].append(float(value(hidden, tokens, len(ids))))
    return found


def test_likelihood_is_the_mean_log_prob_of_the_response(model, tiny_model_dir, tmp_path):
    table = np.asarray(model.params["embed"]["embedding"], np.float64)

    def value(hidden, tokens, count):
        scores = hidden @ table.T
        logp = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        own = logp[np.arange(len(tokens) - 1), tokens[1:]]
        return own[-count:].mean()

    scorer = likelihood_scorer(str(tiny_model_dir), ReadConfig(batch_size=3), tmp_path, QUIET)
    for found, expected in zip(
        scorer(groups()), one_by_one(model, model.params, value), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def trained(model, tiny_model_dir, mixed, tmp_path_factory) -> tuple[Path, dict]:
    """What a finished run of preference_to_policy leaves, and its reward model."""
    path = tmp_path_factory.mktemp("trained") / "run"
    settings = as_json(configure(mixed, tiny_model_dir, path))
    settings["sha256"] = identities({"model": tiny_model_dir})
    config = LoraConfig(**settings["lora"])
    noise = lambda x: x + 0.05 * jax.random.normal(jax.random.key(1), x.shape)
    adapter = jax.tree.map(noise, config.init(jax.random.key(0), model.params))
    params = {"decoder": adapter, "head": init_scalar_head(jax.random.key(2), model.config.d_model)}
    with Checkpointer(path / "checkpoints" / "reward", settings) as checkpoints:
        for step in (1, 2):
            state = TrainState(jnp.int32(step), params, {"m": jnp.ones(3)}, jax.random.key(3))
            checkpoints.save(state if step == 2 else state.replace(params={"w": jnp.ones(1)}), {})
    (path / "config.json").write_text(json.dumps(settings))
    (path / "summary.json").write_text("{}")
    return path, params


def test_learned_is_the_head_on_the_last_token_of_the_runs_model(model, trained):
    path, params = trained
    whole = attach(model.params, params["decoder"], LoraConfig(rank=4, alpha=8.0).scale)
    head = params["head"]
    value = lambda hidden, tokens, count: hidden[-1] @ head["kernel"] + head["bias"]
    scorer = learned_scorer(str(path), ReadConfig(batch_size=2), path, QUIET)
    for found, expected in zip(scorer(groups()), one_by_one(model, whole, value), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "calibrated"),
    [
        ("bradley_terry", True),
        ("plackett-luce", True),
        ("thurstone", False),
        ("mine.py:loss", False),
    ],
)
def test_log_odds_of_preferences_alone_are_calibrated(trained, tmp_path, loss, calibrated):
    own = json.loads((trained[0] / "config.json").read_text())
    run = tmp_path / "run"
    run.mkdir()
    own["reward"]["loss"] = loss
    (run / "config.json").write_text(json.dumps(own))
    (run / "summary.json").write_text("{}")
    assert in_log_odds(replace(CONFIG, model=str(run))) == calibrated
    assert not in_log_odds(replace(CONFIG, reward="length", model=None))


def test_a_whole_run_of_a_learned_reward(trained, tmp_path):
    path, _ = trained
    rows = [as_messages(row) if i % 2 else row for i, row in enumerate(ROWS[:12])]
    data = write_jsonl(tmp_path / "prefs.jsonl", rows)
    config = replace(CONFIG, data=data, model=str(path), run_dir=tmp_path / "run", limit=8, edits=3)
    main(config)
    summary = summary_of(config)
    assert summary["records"] == 8
    rewards = np.array([row["rewards"] for row in read_rows(config.run_dir / "scores.jsonl")])
    assert summary["accuracy"][0] == (rewards[:, 0] > rewards[:, 1]).mean()
    bins = summary["calibration"]["bins"]
    assert sum(bins["count"]) == 8
    confidence = 1 / (1 + np.exp(-np.abs(rewards[:, 0] - rewards[:, 1])))
    assert np.average(bins["confidence"], weights=bins["count"]) == pytest.approx(confidence.mean())
    assert summary["edits"]["trailing break"]["changed"] == 6
    page = (config.run_dir / "report.html").read_text()
    assert page.count("<svg") >= 4 and "Edits that keep the meaning" in page
    assert set(summary["seconds"]) == {"score", "measure"}


def test_scores_are_of_the_model_that_the_run_was_trained_on(trained, tiny_model_dir, tmp_path):
    """Its base model was replaced, or its reward model trained anew, between two launches."""
    path, params = trained
    path = shutil.copytree(path, tmp_path / "trained")
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, "model": str(model)}))
    first = identity(str(path), "learned")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, model / "model.safetensors")
    data = write_jsonl(tmp_path / "prefs.jsonl", ROWS[:12])
    config = replace(CONFIG, data=data, model=str(path), run_dir=tmp_path / "run", edits=0)
    with pytest.raises(InputError, match=r"^model: \S+/model is another one than \S+/trained was"):
        main(config)
    assert not (tmp_path / "run").exists()
    (path / "config.json").write_text(json.dumps(settings))
    assert identity(str(path), "learned") == first  # what is read is the same, elsewhere
    other = {**params, "head": jax.tree.map(lambda x: x + 1, params["head"])}
    with Checkpointer(path / "checkpoints" / "reward", settings) as checkpoints:
        checkpoints.save(TrainState(jnp.int32(3), other, {"m": jnp.ones(3)}, jax.random.key(3)), {})
    assert identity(str(path), "learned") != first
    del settings["sha256"]
    (path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="does not say by content which model"):
        main(config)


def test_a_tiny_model_belongs_to_its_run(model, trained, tiny_model_dir, tmp_path):
    path = shutil.copytree(trained[0], tmp_path / "trained")
    shutil.copytree(tiny_model_dir, path / "tiny_0")
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, "model": "tiny", "seed": 0}))
    assert identity(str(path), "learned") == identity(str(trained[0]), "learned")
    read_by = [learned_scorer(str(p), ReadConfig(), tmp_path, QUIET) for p in (path, trained[0])]
    rewards = [np.concatenate(scorer(groups())) for scorer in read_by]
    np.testing.assert_array_equal(*rewards)


@pytest.mark.parametrize(
    "form", [None, as_messages, lambda row: row], ids=["own", "messages", "text"]
)
def test_only_what_the_run_held_out(form, model, trained, mixed, tmp_path):
    """The lines that its reward model was measured on, and no other, in whatever form."""
    path, _ = trained
    data = DataConfig(path=mixed, held_out=0.25)
    train, held_out = read_records(data, PAIRS, model.tokenizer, path / "data", seed=0)
    file = mixed if form is None else write_jsonl(tmp_path / "x.jsonl", list(map(form, ROWS)))
    config = replace(CONFIG, data=file, model=str(path), held_out=True)
    line = lambda record: record.source.rpartition(":")[2]
    assert [line(record) for record in read(config)] == [line(record) for record in held_out]
    assert 0 < len(held_out) < len(ROWS) / 2 and len(train) + len(held_out) == len(ROWS)


@pytest.mark.slow
def test_the_reward_model_that_a_run_trained(dpo, tmp_path):
    data = write_jsonl(tmp_path / "prefs.jsonl", ROWS)
    config = replace(CONFIG, data=data, model=str(dpo.run_dir), run_dir=tmp_path / "run")
    main(config)
    assert summary_of(config)["accuracy"][1] > 0.8


def test_characters_of_text_and_of_messages():
    say = lambda text: {"role": "assistant", "content": text}
    assert characters("abc") == 3
    assert characters([say("ab"), say("c")]) == 3


# --- mistakes ---------------------------------------------------------------------------


def no_data(path, run):
    return ["--data", "None"], "data: no file of comparisons; give one, --data comparisons"


def no_file(path, run):
    return ["--data", str(path / "nowhere.jsonl")], r"\S+nowhere\.jsonl: no such file; check"


def broken_line(path, run):
    (path / "prefs.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"prompt": \n')
    return [], r"\S+prefs\.jsonl:2: broken JSON, .*; fix or remove the line"


def one_comparison(path, run):
    write_jsonl(path / "prefs.jsonl", ROWS[:1])
    return [], r"\S+prefs\.jsonl: fewer than 2 prompts have responses whose order is known"


def no_model(path, run):
    return ["--model", "None"], "model: --reward learned needs one; give the directory of a run"


def no_language_model(path, run):
    return ["--model", "None", "--reward", "likelihood"], "model: --reward likelihood needs one"


def no_such_run(path, run):
    return ["--model", str(path / "nowhere")], r"model: \S+nowhere: no such run directory; check"


def no_run(path, run):
    return ["--model", str(path)], (
        r"model: \S+: is no run of irl-jax reward, irl-jax irl or experiments\.preference_to_policy"
        ", and no reward model's directory; give one, or --reward likel"
    )


def unfinished_run(path, run):
    (path / "half").mkdir()
    (path / "half" / "config.json").write_text((run / "config.json").read_text())
    return ["--model", str(path / "half")], r"model: \S+half: this run is not finished; launch it"


def unknown_flag(path, run):
    return ["--rewards", "length"], r".* --rewards, length Perhaps you meant: --reward "


def unknown_reward(path, run):
    return ["--reward", "size"], ".* invalid choice 'size' for argument '--reward'"


def nothing_held_out(path, run):
    args = ["--reward", "length", "--held-out"]
    return args, "held_out: a length reward has no run that held prompts out; leave it away"


def too_small_a_limit(path, run):
    return ["--limit", "1"], r"limit: expected a number in \[2, inf\], got 1"


def empty_batches(path, run):
    return ["--read.batch-size", "0"], r"read\.batch_size: expected a number in \[1, inf\], got 0"


MISTAKES = (
    no_data, no_file, broken_line, one_comparison, no_model, no_language_model, no_such_run,
    no_run, unfinished_run, unknown_flag, unknown_reward, too_small_a_limit, nothing_held_out,
    empty_batches,
)  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.__name__)
def test_mistakes_are_one_line(case, trained, tmp_path, capsys):
    data = write_jsonl(tmp_path / "prefs.jsonl", ROWS[:6])
    config = replace(CONFIG, data=data, model=str(trained[0]), run_dir=tmp_path / "run")
    args, says = case(tmp_path, trained[0])
    with pytest.raises(SystemExit) as stop:
        run_cli(main, config, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match(says, complaint(captured.err)), captured.err
    assert not (tmp_path / "run").exists()


def test_a_mistake_found_while_scoring_binds_nothing(trained, tmp_path):
    rows = [*ROWS[:4], {**ROWS[0], "rejected": "It is " + "long " * 80}]
    data = write_jsonl(tmp_path / "prefs.jsonl", rows)
    config = replace(CONFIG, data=data, model=str(trained[0]), run_dir=tmp_path / "run", edits=0)
    with pytest.raises(InputError, match=r"prefs\.jsonl:5: the completion has \d+ tokens, over"):
        main(config)
    wide = replace(config, read=ReadConfig(max_prompt=100, max_completion=64))
    with pytest.raises(InputError, match=r"read\.max_prompt 100 \+ read\.max_completion 64 exceed"):
        main(wide)
    with pytest.raises(InputError, match="nowhere: no such GGUF file or Hugging Face model"):
        main(replace(config, reward="likelihood", model="nowhere"))
    main(replace(config, read=ReadConfig(overlong="truncate", batch_size=2)))
    assert summary_of(config)["records"] == 5
