"""`irl-jax` as its user runs it: whole commands on a small model, and mistakes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from irl_jax.__main__ import COMMANDS, main
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.losses.table import LOSSES
from irl_jax.models.pretrained import load_pretrained
from irl_jax.recipes.scorers import ReadConfig, learned_scorer, run_settings
from irl_jax.train.progress import Progress
from irl_jax.types import InputError

SMALL = [
    "--data.held-out", "0.3", "--data.buckets", "1", "--steps", "3", "--batch-size", "8",
    "--lr", "1e-2", "--lora.rank", "4", "--evaluation.prompts", "8",
    "--evaluation.completions", "2", "--evaluation.batch-size", "8", "--mesh.data", "1",
]  # fmt: skip
SAMPLED = ["--sample.max-new-tokens", "8", "--completions", "4"]


def launch(command, path: Path, model: Path, run_dir: Path, *args: str) -> dict:
    """Runs a command; returns the run's summary."""
    main([command, "--data.path", str(path), "--model", str(model), "--run-dir", str(run_dir),
          *SMALL, *args])  # fmt: skip
    return json.loads((run_dir / "summary.json").read_text())


def text_of(report: Path) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", report.read_text()).split())


@pytest.fixture(scope="module")
def reward_run(files, small_model_dir, tmp_path_factory) -> Path:
    """A finished run of `irl-jax reward`; not to be written to."""
    run_dir = tmp_path_factory.mktemp("runs") / "reward"
    args = ["--loss", "thurstone", "--ensemble.members", "2", "--steps", "12"]
    launch("reward", files["pairs"], small_model_dir, run_dir, *args)
    return run_dir


def test_a_policy_from_pairs(files, small_model_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    args = ["--loss", "sigmoid", "--loss.beta", "0.5"]  # TRL's name of DPO
    summary = launch("align", files["pairs"], small_model_dir, run_dir, *args)
    held_out = summary["held_out"]
    assert held_out["before"]["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert held_out["after"]["loss"] < held_out["before"]["loss"]
    assert held_out["after"]["accuracy"] > 0.9
    assert "reward_gain" not in summary  # there is no reward to measure by
    estimate, low, high = summary["implicit"]["accuracy"]
    assert estimate == pytest.approx(held_out["after"]["accuracy"]) and low <= estimate <= high
    config, params = load_pretrained(run_dir / "export")
    assert config.vocab_size == params["embed"]["embedding"].shape[0]
    shown = text_of(run_dir / "report.html")
    assert "KL to the model it started from" in shown and "Held out" in shown
    assert "implicit reward, held-out pairs in order" in shown
    with pytest.raises(InputError, match=r"is no run of irl-jax reward"):
        run_settings(run_dir)
    capsys.readouterr()
    launch("align", files["pairs"], small_model_dir, run_dir, *args)
    assert "this run is complete" in capsys.readouterr().out
    again = ["align", "--config", str(run_dir / "config.json"), "--run-dir", str(run_dir)]
    main([*again, "--mesh.data", "1"])
    assert "this run is complete" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*again, "--loss.beta", "0.1"])
    assert "options.beta was 0.5, is 0.1" in capsys.readouterr().err


def test_supervised_fine_tuning(files, small_model_dir, tmp_path):
    summary = launch("sft", files["demonstrations"], small_model_dir, tmp_path / "run")
    assert summary["loss"] == "sft"
    assert summary["held_out"]["after"]["loss"] < summary["held_out"]["before"]["loss"]


def test_a_reward_model_and_a_policy_for_it(reward_run, files, small_model_dir, tmp_path):
    found = json.loads((reward_run / "summary.json").read_text())
    assert found["quality"]["accuracy"][0] > 0.9
    assert len(found["members"]["quality"]) == 2 and found["members"]["spread"][0] > 0
    assert "member 2 alone" in text_of(reward_run / "report.html")
    groups = [GroupRecord("say a u", ["good kind", "poor dull"], {}, "x:1")]
    with Progress() as progress:
        scorer = learned_scorer(str(reward_run), ReadConfig(), tmp_path, progress)
    good, bad = scorer(groups)[0]
    assert good > bad
    args = ["--loss", "rloo", "--reward", str(reward_run), "--steps", "8", "--lr", "5e-2"]
    summary = launch("align", files["prompts"], small_model_dir, tmp_path / "run", *args, *SAMPLED)
    assert summary["reward_gain"][0] > 0
    assert summary["disagreement_before"][0] > 0
    assert summary["kl"][0] > 0
    assert "reward of answers, after - before" in text_of(tmp_path / "run" / "report.html")


def test_a_run_is_sampled_and_a_reward_scored(reward_run, files, small_model_dir, tmp_path, capsys):
    ask = ["sample", "--max-new-tokens", "8", "--model", str(small_model_dir)]
    main([*ask, "--prompt", "say a u", "--completions", "2"])
    assert "> say a u" in capsys.readouterr().out
    main(["sample", "--model", str(small_model_dir), "--prompt", "say a u"])  # to the context's end
    assert "> say a u" in capsys.readouterr().out
    out = tmp_path / "answers.jsonl"
    main([*ask, "--data", str(files["prompts"]), "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["answer"] for row in rows] == [row["prompt"][-1] for row in rows]
    assert all(len(row["completions"]) == 1 for row in rows)
    run_dir = ["--run-dir", str(tmp_path / "score")]
    main(["score", "--model", str(reward_run), "--data", str(files["pairs"]), *run_dir])
    summary = json.loads((tmp_path / "score" / "summary.json").read_text())
    assert summary["pair_accuracy"][0] > 0.9
    trained_on = f"warning: {reward_run} was trained on {files['pairs']}; --held-out scores what"
    assert trained_on in capsys.readouterr().err
    run_dir = ["--run-dir", str(tmp_path / "held_out"), "--held-out"]
    main(["score", "--model", str(reward_run), "--data", str(files["pairs"]), *run_dir])
    assert "warning" not in capsys.readouterr().err


def mistakes(files, model) -> dict[str, tuple[list[str], str]]:
    """Name -> arguments, what the one line says."""
    pairs, ratings = ["--data.path", str(files["pairs"])], ["--data.path", str(files["ratings"])]
    with_model = ["--model", str(model)]
    grpo = ["align", "--loss", "grpo", *pairs, *with_model]
    own = files["pairs"].parent / "own.py"
    own.write_text("def array(logp, batch):\n    return logp.sum((1, 2))\n")
    sampled = ["align", *pairs, *with_model, "--reward", "m:f"]
    return {
        "no file": (["align"], "data.path: no file of examples"),
        "no loss of this name": (["align", "--loss", "dpoo"], "did you mean dpo"),
        "a reward's loss": (["align", "--loss", "thurstone", *pairs], "irl-jax reward --loss"),
        "a policy's loss": (["reward", "--loss", "dpo", *pairs], "irl-jax align --loss dpo"),
        "another kind": (
            ["align", "--loss", "simpo", *ratings, *with_model],
            "holds ratings, but --loss simpo learns from pairs",
        ),
        "no reward": (grpo, "reward: --loss grpo learns from completions that a reward judges"),
        "no such reward": ([*grpo, "--reward", "/none"], "/none: no such run directory"),
        "no function": ([*grpo, "--reward", str(own)], "own.py: name a function of the file, "),
        "a loss that returns an array": (
            ["align", "--loss", f"{own}:array", "--data.held-out", "0.3", *pairs, *with_model],
            "loss: it returned an array of shape [16]; expected irl_jax.types.Loss",
        ),
        "no such function": ([*grpo, "--reward", "/none.py:f"], "/none.py: no such file"),
        "an odd number of completions": (
            [*sampled, "--loss", "online_dpo", "--completions", "3"],
            "completions: 3; --loss online_dpo needs an even number",
        ),
        "opponents and no policy": (
            [*sampled, "--loss", "nash_md", "--completions", "4", "--loss.opponents", "4"],
            "loss.opponents: 4 of --completions 4 are drawn by the opponent",
        ),
        "more attempts than completions": (
            [*sampled, "--loss", "pkpo", "--completions", "4", "--loss.k", "5"],
            "loss.k: 5; --loss pkpo takes the best of k of --completions 4: give 1 to 4",
        ),
        "too few prompts": ([*grpo, "--reward", "math:fsum", "--batch-size", "900"], "math:fsum"),
        "a hyper-parameter out of range": (
            ["align", "--loss.beta", "-1", "--data.held-out", "0.3", *pairs, *with_model], "beta",
        ),
        "ties of ratings": (
            ["align", "--loss", "kto", *ratings, *with_model, "--data.ties", "drop"],
            "data.ties: a file of ratings has none",
        ),
        "margins of ratings": (
            ["reward", "--loss", "regression", *ratings, *with_model, "--margin", "1"],
            "margin: ratings have none",
        ),
        "no such model": (["align", *pairs, "--model", "/none"], "/none: no such GGUF file"),
        "a broken file of settings": (["align", "--config", "/none.toml"], "/none.toml"),
        "no prompt": (["sample", *with_model], "prompt: give --prompt"),
        "a model of no run": (
            ["sample", "--model", "tiny", "--prompt", "x"], "model: tiny is made by a run",
        ),
        "a prompt that is longer than the context": (
            ["sample", *with_model, "--prompt", "say a u " * 99],
            "leaves no room in the model's context of",
        ),
        "no such command": (["algin"], "did you mean align?"),
    }  # fmt: skip


def mistaken_teachers(files, model) -> dict[str, tuple[list[str], str]]:
    """As `mistakes`."""
    align = ["align", "--data.path", str(files["prompts"]), "--model", str(model)]
    teacher = ["--teacher", str(model)]
    return {
        "no teacher": ([*align, "--loss", "gkd"], "teacher: --loss gkd learns from one; give"),
        "a teacher of a loss that has none": (
            [*align, "--loss", "grpo", "--reward", "m:f", *teacher],
            "teacher: --loss grpo has none; leave --teacher out, or give --loss gkd",
        ),
        "a teacher and a reward": (
            [*align, "--loss", "distil", "--reward", "m:f", *teacher],
            "reward: --loss distil learns from its teacher alone; leave --reward out",
        ),
        "no such teacher": (
            [*align, "--loss", "gkd", "--teacher", "/none"],
            "/none: no such GGUF file or Hugging Face model directory",
        ),
    }


def test_a_mistake_is_one_line_and_writes_nothing(files, small_model_dir, tmp_path, capsys,
                                                  monkeypatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    every = mistakes(files, small_model_dir) | mistaken_teachers(files, small_model_dir)
    for name, (args, message) in every.items():
        with pytest.raises(SystemExit) as stop:
            main(args)
        error = capsys.readouterr().err
        assert stop.value.code == 2, name
        assert message in error and error.count("\n") == 1, f"{name}: {error}"
        assert not list(tmp_path.rglob("config.json")), name


def test_help_and_lists(capsys):
    for args in (["--help"], ["align", "--help"], ["align", "--help-all"]):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    brief, whole = shown.split("usage: irl-jax align")[1:]
    assert "--lora.rank" not in brief and "--lora.rank" in whole
    main(["losses"])
    listed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", listed, re.MULTILINE) for name in LOSSES)
    for command in ("losses", "papers", "compare"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"usage: irl-jax {command}" in capsys.readouterr().out
    main(["losses", "simpo"])
    assert "hyper-parameters: beta 2, gamma 1" in capsys.readouterr().out
    main(["losses", "transport"])
    found = capsys.readouterr().out
    assert re.findall(r"^  (\w+)", found, re.MULTILINE) == ["aot", "aot_unpaired"]
    with pytest.raises(SystemExit):
        main(["losses", "sipmo"])
    assert "did you mean simpo" in capsys.readouterr().err


def test_every_weight_of_a_policy(files, small_model_dir, tmp_path):
    run_dir = tmp_path / "run"
    args = ["--train", "full", "--loss", "simpo", "--lr", "1e-3"]
    summary = launch("align", files["pairs"], small_model_dir, run_dir, *args)
    assert summary["held_out"]["after"]["loss"] < summary["held_out"]["before"]["loss"]
    (_, before), (_, after) = (load_pretrained(d) for d in (small_model_dir, run_dir / "export"))
    assert np.abs(before["embed"]["embedding"] - after["embed"]["embedding"]).max() > 1e-4


def test_every_weight_without_a_penalty_is_still_compared(files, small_model_dir, tmp_path):
    (tmp_path / "r.py").write_text(
        "def f(prompts, completions):\n    return [*map(len, completions)]\n"
    )
    args = ["--train", "full", "--loss", "dr_grpo", "--reward", f"{tmp_path / 'r.py'}:f", *SAMPLED]
    summary = launch("align", files["prompts"], small_model_dir, tmp_path / "run", *args)
    assert np.isfinite(summary["kl"]).all() and "reward_gain" in summary


def test_a_teacher(files, small_model_dir, teacher_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    args = ["--loss", "gkd", "--teacher", str(teacher_dir), *SAMPLED]
    args += ["--steps", "20", "--train", "full"]
    summary = launch("align", files["prompts"], small_model_dir, run_dir, *args)
    assert summary["reward_before"][0] < -0.1  # log π_T/π of the policy's own answers
    assert summary["reward_gain"][0] > 0
    before, *_, after = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    assert after["divergence"] < 0.7 * before["divergence"] and before["reward"] == 0
    other = ["align", "--data.path", str(files["prompts"]), "--model", str(small_model_dir),
             "--run-dir", str(run_dir), *SMALL, *args]  # fmt: skip
    other[other.index(str(teacher_dir))] = str(small_model_dir)
    with pytest.raises(SystemExit) as stop:
        main(other)
    assert stop.value.code == 2 and "teacher" in capsys.readouterr().err


def test_a_teacher_of_other_tokens_or_a_short_context(
    files, small_model_dir, teacher_dir, tmp_path, capsys
):
    other = shutil.copytree(teacher_dir, tmp_path / "other")
    lines = [line[::-1] for path in files.values() for line in path.open()]
    Tokenizer.train_sentencepiece(lines, 320, tmp_path).save(other)
    short = shutil.copytree(teacher_dir, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8}))
    said = {
        other: "has other tokens than the policy; take a teacher of",
        short: "has a context of 8",
    }
    for teacher, message in said.items():
        with pytest.raises(SystemExit):
            launch("align", files["prompts"], small_model_dir, tmp_path / "run", "--loss", "gkd",
                   "--teacher", str(teacher), *SAMPLED)  # fmt: skip
        assert message in capsys.readouterr().err
