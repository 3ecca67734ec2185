"""What `irl-jax reward` exports: transformers and our own reader score as the run does."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from irl_jax.__main__ import main
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.scorers import identity, learned_scorer
from irl_jax.train.inputs import sha256_of
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from tests.recipes.test_commands import SMALL, launch

QUIET = Progress(io.StringIO())
GROUPS = [
    GroupRecord("say a u", ["good kind", "weak dull", "fine good kind"], {}, "x:1"),
    GroupRecord([{"role": "user", "content": "say b x"}], ["poor", "kind"], {}, "x:2"),
]


def scores(path: Path) -> np.ndarray:
    """Rewards of `GROUPS` by a run, or by a directory."""
    found = learned_scorer(str(path), ReadConfig(batch_size=2), path, QUIET)(GROUPS)
    return np.concatenate(found)


def transformers_scores(path: Path) -> np.ndarray:
    """The same by transformers: the directory's own template, all in one padded batch."""
    transformers = pytest.importorskip("transformers", reason='needs pip install "irl_jax[parity]"')
    torch = pytest.importorskip("torch", reason='needs pip install "irl_jax[parity]"')
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    texts = []
    for group in GROUPS:
        start = group.prompt
        start = [{"role": "user", "content": start}] if isinstance(start, str) else start
        for text in group.completions:
            chat = [*start, {"role": "assistant", "content": text}]
            texts.append(tokenizer.apply_chat_template(chat, tokenize=False))
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits[:, 0].numpy()


def bias_of(path: Path) -> float:
    return json.loads((path / "config.json").read_text())["irl_jax"]["bias"]


def trained(files, model, run_dir, kind, *args) -> dict:
    return launch("reward", files[kind], model, run_dir, "--steps", "6", "--lr", "1e-2", *args)


@pytest.fixture(scope="module")
def run(files, small_model_dir, tmp_path_factory) -> Path:
    """A finished run of `irl-jax reward`; not to be written to."""
    run_dir = tmp_path_factory.mktemp("reward_export") / "run"
    trained(files, small_model_dir, run_dir, "pairs", "--loss", "bradley_terry")
    return run_dir


def test_the_export_scores_as_the_run(run):
    found = scores(run / "export")
    assert np.ptp(found) > 1e-2
    np.testing.assert_allclose(found, scores(run), atol=1e-5)
    without = found - bias_of(run / "export")
    np.testing.assert_allclose(transformers_scores(run / "export"), without, rtol=1e-4, atol=1e-4)
    summary = json.loads((run / "summary.json").read_text())
    assert "export/README.md" in summary["exported"] and "export/config.json" in summary["exported"]
    assert not list(run.glob(".export*"))
    assert identity(str(run / "export"), "learned") != identity(str(run), "learned")


def test_irl_jax_score_of_the_export_is_that_of_the_run(run, files, tmp_path):
    rows, measures = [], []
    for model in (run, run / "export"):
        place = tmp_path / model.name
        main(["score", "--model", str(model), "--data", str(files["pairs"]), "--run-dir",
              str(place), "--edits", "4"])  # fmt: skip
        rows.append(np.array([row["rewards"] for row in read_rows(place / "scores.jsonl")]))
        measures.append(json.loads((place / "summary.json").read_text()))
    np.testing.assert_allclose(*rows, atol=1e-5)
    ours, theirs = measures
    for name in ("accuracy", "pair_accuracy", "records", "edited_pairs"):
        assert ours[name] == theirs[name]
    np.testing.assert_allclose(
        ours["calibration"]["error"], theirs["calibration"]["error"], atol=1e-4
    )


def test_the_card_says_what_the_summary_says(run, files, small_model_dir):
    card = (run / "export" / "README.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front)["pipeline_tag"] == "text-classification"
    cells = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", body, re.M))
    assert cells["data"] == "pairs.jsonl"
    assert cells["SHA-256 of the data"] == sha256_of(files["pairs"], "data")
    assert cells["SHA-256 of the base model"] == sha256_of(small_model_dir, "model")
    assert cells["pairs learned from"] == str(summary["examples"])
    assert cells["pairs held out"] == str(summary["held_out_examples"])
    interval = lambda x: "{:z.3f} [{:z.3f}, {:z.3f}]".format(*x).replace("-", "−")
    assert cells["held-out pairs in order"] == interval(summary["quality"]["accuracy"])
    assert cells["expected calibration error"] == interval(summary["audit"]["calibration"])
    length = summary["audit"]["length"]
    name = "correlation of reward and length within prompts"
    assert cells[name] == interval(length["correlation"])
    assert cells["loss"] == "bradley_terry" and cells["updates"] == "6"
    assert {"irl_jax", "jax", "Python"} <= set(cells) and "## Licence" in body
    assert f"bias of {bias_of(run / 'export'):.6g}, for" in body


def test_the_command_of_the_card_is_the_run(run, tmp_path, capsys):
    """Given again, with the run's directory, it is the same run."""
    card = (run / "export" / "README.md").read_text()
    line = re.search(r"```sh\n(.*)\n```", card)[1]
    name, *args = shlex.split(line)
    assert name == "irl-jax" and str(run) not in line
    main([*args, "--run-dir", str(run), "--mesh.data", "1"])
    assert "this run is complete" in capsys.readouterr().out


def test_each_member_has_a_directory(files, small_model_dir, tmp_path):
    args = ["--loss", "thurstone", "--ensemble.members", "2"]
    trained(files, small_model_dir, tmp_path / "run", "pairs", *args)
    members = [tmp_path / "run" / "export" / f"member_{m}" for m in (1, 2)]
    each = np.array([scores(path) for path in members])
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(each.mean(0), scores(tmp_path / "run"), atol=1e-5)
    assert "One of 2 members" in (members[1] / "README.md").read_text()
    assert not json.loads((members[0] / "config.json").read_text())["irl_jax"]["log_odds"]


def test_a_bias_is_kept_apart_and_said(files, small_model_dir, tmp_path):
    """And a template without EOS, and BOS, are those that the reward was trained with."""
    run_dir = tmp_path / "run"
    args = ["--loss", "regression", "--data.chat", "dialogue", "--data.add-bos", "True"]
    trained(files, small_model_dir, run_dir, "stars", *args)
    bias = bias_of(run_dir / "export")
    assert abs(bias) > 1e-3
    assert f"bias of {bias:.6g}, for" in (run_dir / "export" / "README.md").read_text()
    found = scores(run_dir / "export")
    np.testing.assert_allclose(found, scores(run_dir), atol=1e-5)
    theirs = transformers_scores(run_dir / "export")
    np.testing.assert_allclose(theirs + bias, found, rtol=1e-4, atol=1e-4)
    assert Tokenizer.from_directory(run_dir / "export").chat_template.count("bos_token") == 2


def test_a_reward_of_steps_is_not_exported(files, small_model_dir, tmp_path):
    summary = trained(
        files, small_model_dir, tmp_path / "run", "steps", "--loss", "process_cross_entropy"
    )
    assert "export" not in summary and not (tmp_path / "run" / "export").exists()


def test_the_card_of_a_policy(files, small_model_dir, tmp_path):
    run_dir = tmp_path / "run"
    summary = launch("align", files["pairs"], small_model_dir, run_dir, "--loss", "dpo")
    card = (run_dir / "export" / "README.md").read_text()
    assert "pipeline_tag: text-generation" in card and "irl-jax align" in card
    kl = "{:z.3f} [{:z.3f}, {:z.3f}]".format(*summary["kl"])
    assert f"| kl | {kl.replace('-', '−')} |" in card
    assert f"| pairs learned from | {summary['examples']} |" in card
    assert SMALL[0] in card
