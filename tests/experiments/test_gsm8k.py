from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jax
import numpy as np
import pytest

from experiments.gsm8k.config import ALGORITHMS, CONFIG, Config, Name, PolicyConfig
from experiments.gsm8k.study import main
from experiments.gsm8k.tasks import (
    DataConfig,
    EvaluationConfig,
    RewardConfig,
    find_answer,
    is_marked,
)
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.pretrained import load_pretrained, smollm2_path
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rewards.numeric import number
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError
from tests.experiments.conftest import complaint, write_jsonl

ROOT = Path(__file__).parents[2]
LIMIT, BUFFER = 16, 14  # tokens


def questions(start: int, count: int) -> list[dict[str, str]]:
    return [
        {"question": prompt_of(topic), "answer": f"It is <<1+1=2>>so.\n#### {i % 3},000"}
        for i, topic in enumerate(topics(80, 0)[start : start + count])
    ]


def with_a_number(decode):
    """What the tiny model writes, and a number that depends on how long it is."""

    def decoded(self, ids, skip_special=True):
        text = decode(self, ids, skip_special).strip()
        thousands = f"{len(ids) // 2 % 3},000"
        return f"{text}\n#### {thousands}" if len(ids) % 2 else f"{text} 7 or {thousands}."

    return decoded


@pytest.fixture(scope="module", autouse=True)
def numbers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tokenizer, "decode", with_a_number(Tokenizer.decode))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gsm8k")
    return (
        write_jsonl(folder / "train.jsonl", questions(0, 12)),
        write_jsonl(folder / "test.jsonl", questions(20, 6)),
    )


def configure(files: tuple[Path, Path], model: Path | str, run_dir: Path, **policy) -> Config:
    """A run of a few updates on one device; training and measuring sample alike."""
    return Config(
        data=DataConfig(*files, prompt="{question}"),
        model=str(model),
        run_dir=run_dir,
        save_every=1,
        samples=4,
        lora=LoraConfig(rank=4, alpha=8.0),
        policy=replace(
            PolicyConfig(steps=3, prompts=4, completions=4, max_new_tokens=LIMIT, lr=1e-2), **policy
        ),
        reward=RewardConfig(correct=2.0, format=0.5, overlong=0.25, buffer=BUFFER),
        evaluation=EvaluationConfig(
            questions=6, completions=4, temperature=1.0, batch_size=4, every=2
        ),
        mesh=MeshConfig(data=1),
    )


@pytest.fixture(scope="module")
def finished(files, tiny_model_dir, tmp_path_factory) -> Config:
    run_dir = tmp_path_factory.mktemp("runs") / "grpo"
    config = configure(files, tiny_model_dir, run_dir, beta=0.1, minibatches=2)
    main(config)
    return config


def rows_of(config: Config, name: str, stage: str) -> list[dict]:
    lines = (config.run_dir / f"{name}.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["stage"] == stage]
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


def summary_of(config: Config) -> dict:
    summary = json.loads((config.run_dir / "summary.json").read_text())
    return {k: v for k, v in summary.items() if k not in ("seconds", "export", "report")}


def last_integer(text: str) -> int:
    return int(re.findall(r"\d[\d,]*", text)[-1].replace(",", ""))


def given(text: str, ended: bool) -> int | None:
    """The answer of a completion; one that was cut must have marked it."""
    return last_integer(text) if ended or "####" in text else None


def test_rewards_are_those_of_the_completions(finished):
    samples = rows_of(finished, "samples", "policy")
    metrics = rows_of(finished, "metrics", "policy")
    assert [row["step"] for row in metrics] == [1, 2, 3]
    truths = {row["question"]: last_integer(row["answer"]) for row in questions(0, 12)}
    for row in samples:
        right = float(given(row["completion"], row["ended"]) == truths[row["question"]])
        marked = float("####" in row["completion"])
        late = min(0.0, max(-1.0, (LIMIT - BUFFER - row["tokens"]) / BUFFER))
        assert (row["correct"], row["format"]) == (right, marked)
        assert row["overlong"] == pytest.approx(late)
        assert row["reward"] == pytest.approx(2.0 * right + 0.5 * marked + 0.25 * late)
    assert {row["correct"] for row in samples} == {row["format"] for row in samples} == {0.0, 1.0}
    assert min(row["overlong"] for row in samples) < 0
    for metric in metrics:
        own = [row for row in samples if row["step"] == metric["step"]]
        assert len(own) == 16
        mean = lambda name, own=own: np.mean([row[name] for row in own])
        assert metric["reward"] == pytest.approx(mean("reward"), abs=1e-6)
        assert metric["reward_correct"] == pytest.approx(mean("correct"), abs=1e-6)
        by_question = {row["question"]: [] for row in own}
        for row in own:
            by_question[row["question"]].append((row["correct"], row["reward"]))
        solved = [max(c for c, _ in found) for found in by_question.values()]
        differ = lambda at, of=by_question: [len({x[at] for x in xs}) > 1 for xs in of.values()]
        assert metric["solved"] == pytest.approx(np.mean(solved))
        assert metric["has_signal"] == pytest.approx(np.mean(differ(0)))
        assert metric["moves"] == pytest.approx(np.mean(differ(1)))
    assert metrics[0]["kl"] >= 0
    assert max(row["grad_norm"] for row in metrics) > 0


def test_measurements_are_those_of_the_answers(finished):
    evaluations = summary_of(finished)["evaluations"]
    assert list(evaluations) == ["0", "2", "3"]
    truths = {row["question"]: last_integer(row["answer"]) for row in questions(20, 6)}
    rates = {}
    for step, found in evaluations.items():
        own = [r for r in rows_of(finished, "samples", "evaluation") if r["step"] == int(step)]
        assert [row["question"] for row in own] == list(truths)
        right, votes = [], []
        for row in own:
            numbers = list(map(given, row["completions"], row["ended"]))
            truth = truths[row["question"]]
            right.append(np.mean([number == truth for number in numbers]))
            counts = Counter(number for number in numbers if number is not None)
            most = [n for n, c in counts.items() if c == max(counts.values())]
            votes.append((truth in most) / max(len(most), 1))
        rates[step] = right
        assert found["pass_at_1"][0] == pytest.approx(np.mean(right))
        assert found["majority"][0] == pytest.approx(np.mean(votes))
        texts = [text for row in own for text in row["completions"]]
        assert found["marked"] == pytest.approx(np.mean(["####" in text for text in texts]))
    gain = np.mean(rates["3"]) - np.mean(rates["0"])
    assert summary_of(finished)["gain"][0] == pytest.approx(gain)
    kl, low, high = summary_of(finished)["kl"]
    assert low <= kl <= high
    report = (finished.run_dir / "report.html").read_text()
    assert "pass@1" in report and "KL to the model it started from" in report
    assert load_pretrained(finished.run_dir / "export")[0].vocab_size > 0


class Killed(BaseException):
    """What nothing catches."""


def check_resumed(whole: Config, run_dir: Path, monkeypatch) -> None:
    """Stops a run after its second update; started again, it ends as the whole one."""
    config = replace(whole, run_dir=run_dir)
    log = RunDirectory.log

    def killed(self, step, metrics, stage="train"):
        log(self, step, metrics, stage)
        if (stage, step) == ("policy", 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "log", killed)
        with pytest.raises(Killed):
            main(config)
    assert not (run_dir / "export").exists() and not (run_dir / "summary.json").exists()
    main(config)
    for name, stage in (("metrics", "policy"), ("samples", "policy"), ("samples", "evaluation")):
        assert rows_of(config, name, stage) == rows_of(whole, name, stage)
    weights = lambda c: (c.run_dir / "export" / "model.safetensors").read_bytes()
    assert weights(config) == weights(whole)
    assert summary_of(config) == summary_of(whole)


def test_resumed_is_the_same_to_the_bit(finished, tmp_path, monkeypatch, capsys):
    check_resumed(finished, tmp_path / "run", monkeypatch)
    capsys.readouterr()
    main(finished)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_every_weight_without_a_reference(files, tiny_model_dir, tmp_path, monkeypatch):
    run_dir = tmp_path / "full"
    config = configure(files, tiny_model_dir, run_dir, algorithm="dapo", lr=1e-3, epochs=2)
    config = replace(config, train="full", accumulate=2)
    main(config)
    metrics = rows_of(config, "metrics", "policy")
    assert "kl" not in metrics[0] and metrics[0]["rollouts"] >= 1
    assert summary_of(config)["kl"] is None  # the model's memory was used up
    assert "not measured" in (run_dir / "report.html").read_text()
    before, after = (load_pretrained(path)[1] for path in (tiny_model_dir, run_dir / "export"))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
    assert min(jax.tree.leaves(moved)) > 0
    check_resumed(config, tmp_path / "resumed", monkeypatch)


@pytest.mark.slow
def test_four_devices_do_what_one_does(finished, tmp_path):
    many = replace(finished, run_dir=tmp_path / "run", mesh=MeshConfig(data=1, fsdp=2, tensor=2))
    main(many)
    for a, b in zip(*(rows_of(c, "metrics", "policy") for c in (finished, many)), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)
        assert a["reward"] == pytest.approx(b["reward"], abs=1e-6)


def test_a_name_says_loss_advantage_clip_and_sampling():
    assert get_args(Name) == tuple(ALGORITHMS)
    rewards = np.array([[0.0, 0.0, 1.0, 3.0]], np.float32)
    named = {name: PolicyConfig(algorithm=name).updates() for name in ALGORITHMS}
    advantages = {name: np.asarray(a.advantages(rewards))[0] for name, a in ALGORITHMS.items()}
    centred = rewards[0] - 1.0
    np.testing.assert_allclose(advantages["dr_grpo"], centred, rtol=1e-6)
    np.testing.assert_allclose(advantages["rloo"], centred * 4 / 3, rtol=1e-6)
    for name in ("grpo", "dapo", "gspo", "cispo"):
        np.testing.assert_allclose(advantages[name], centred / np.std(rewards, ddof=1), rtol=1e-5)
    assert {name for name, updates in named.items() if updates.resample} == {"dapo"}
    assert {updates.decides for updates in named.values()} == {"correct"}
    loss = lambda name: PolicyConfig(algorithm=name).loss().keywords
    assert loss("dr_grpo") == {"beta": 0.0, "clip": (0.2, 0.2), "length": 256.0}
    assert loss("rloo") == {"beta": 0.0}
    own = PolicyConfig(algorithm="dapo", clip_high=0.5, beta=0.1, resample=0)
    assert own.loss().keywords == {"beta": 0.1, "clip": (0.2, 0.5)}
    assert own.updates().reference and not own.updates().resample


def test_what_counts_as_marked():
    assert is_marked(r"\boxed{5}") and is_marked("<answer>5</answer>") and is_marked("#### $5")
    assert not is_marked("#### five") and not is_marked("The answer is 5.")
    long = "#### 18 eggs, " + "for she sells what is left, " * 40
    assert is_marked(long) and number(find_answer(long, False, "flexible")) == 18


BAD_FLAGS = [
    (["--data.train", "None"], r"data\.train: no file of questions; get train\.jsonl from github"),
    (["--data.test", "no.jsonl"], r"data\.test: no\.jsonl: no such file or directory; check"),
    (["--policy.algorithm", "dppo"], r".* choice 'dppo' for argument '--policy\.algo.*gspo"),
    (["--policy.algorithm", "rloo", "--policy.epochs", "2"],
     r"policy\.epochs, policy\.minibatches: rloo has no ratio to make up for several updates"),
    (["--policy.algorithm", "rloo", "--policy.minibatches", "1", "--policy.clip-low", "0.1"],
     r"policy\.clip_low, policy\.clip_high: rloo has no clip"),
    (["--policy.minibatches", "3"], r"policy\.minibatches: 3 does not divide policy\.prompts 4"),
    (["--accumulate", "3"], r"accumulate: 3 does not divide policy\.prompts / policy\.minibatches"),
    (["--policy.prompts", "13", "--policy.minibatches", "1"],
     r"policy\.prompts: 13 questions a rollout, but there are only 12"),
    (["--policy.max-new-tokens", "200"], r"policy\.max_new_tokens: prompts of \d+ tokens \+ 200"),
    (["--evaluation.temperature", "0"], r"evaluation\.completions: 4 greedy ones are all the same"),
    (["--reward.buffer", "17"], r"reward\.buffer"),
    (["--data.prompt", "Hi"], r"data\.prompt: \{question\} is missing"),
    (["--data.max-prompt", "3"], r"\S+train\.jsonl:1: the prompt has \d+ tokens, over max_prompt"),
]  # fmt: skip


def refused(config: Config, args: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        run_cli(main, config, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not config.run_dir.exists()
    return complaint(captured.err)


@pytest.mark.parametrize(("args", "says"), BAD_FLAGS, ids=lambda value: str(value)[:40])
def test_flags_are_refused_before_any_work(args, says, files, tiny_model_dir, tmp_path, capsys):
    config = configure(files, tiny_model_dir, tmp_path / "run", minibatches=2)
    assert re.match(says, refused(config, args, capsys))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"question": "Hi"}', r"no text `answer` \(fields: question\); add it"),
        ('{"question": "", "answer": "#### 1"}', r"no text `question`"),
        ('{"question": "Hi", "answer": "18"}', r"`answer` does not end in #### and a number; fix"),
        ('{"question": "Hi", "answer": "#### a few"}', r"`answer` does not end in ####"),
        ('{"question": "Hi"', r"broken JSON"),
        ('{"question": "\\ud83d", "answer": "#### 1"}', r"`question` holds half a surrogate pair"),
        ('{"question": "Hi", "answer": "\\ud83d #### 1"}', r"`answer` holds half a surrogate pair"),
        (
            json.dumps({**questions(0, 1)[0], "answer": "#### 5"}),
            r"the question of \S+:1 with another answer; remove one",
        ),
    ],
)
def test_a_bad_line_is_named(line, says, files, tiny_model_dir, tmp_path, capsys):
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*files[0].read_text().splitlines()[:3], line, ""]))
    config = configure((path, files[1]), tiny_model_dir, tmp_path / "run")
    assert re.match(rf"\S+/train\.jsonl:4: {says}", refused(config, [], capsys))


def test_other_data_is_refused(finished, files):
    content = files[1].read_text()
    try:
        write_jsonl(files[1], questions(20, 5))
        with pytest.raises(InputError, match=r"data\.test: .*sha256\.data\.test was"):
            main(finished)
    finally:
        files[1].write_text(content)


def test_defaults_are_those_of_the_command_line():
    assert CONFIG.policy.updates().reference is False and CONFIG.evaluation.temperature == 0.0


@pytest.mark.slow
def test_two_steps_of_smollm2(tmp_path):
    """The command as a user types it; the model is real, the questions are few."""
    smollm2_path()  # says what to install
    asked = [
        {"question": f"Tom has {n} apples and buys {n + 1}. How many has he?",
         "answer": f"{n} + {n + 1} = {2 * n + 1}\n#### {2 * n + 1}"}
        for n in range(2, 8)
    ]  # fmt: skip
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", asked) for name in ("train", "test")]
    flags = "--policy.steps 2 --policy.prompts 2 --policy.completions 4 --policy.max-new-tokens 32"
    flags += " --reward.format 0.1 --evaluation.questions 2 --evaluation.batch-size 2 --mesh.data 1"
    flags += " --evaluation.completions 4 --evaluation.temperature 1"  # one program samples for all
    command = [sys.executable, "-m", "experiments.gsm8k", "--model", "smollm2",
               "--data.train", str(paths[0]), "--data.test", str(paths[1]),
               "--run-dir", str(tmp_path / "run"), *flags.split()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "pass@1 after" in done.stdout
    metrics = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in metrics)
    assert load_pretrained(tmp_path / "run" / "export")[0].n_layers == 30
