"""`irl-jax score --benchmark processbench` of a model whose probabilities are known."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.eval.benchmarks import PUBLISHED
from irl_jax.models.decoder import init_params
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.reward_files import save_reward_model
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.score import main
from irl_jax.recipes.score_config import CONFIG
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import write_jsonl
from tests.oracles import benchmarks as oracle
from tests.recipes.letters import LETTERS, SPECIAL, write_tokenizer

SAYS = {"y": 0.9, "m": 0.605, "n": 0.1}
"""Last letter of a step -> the probability that the step is right."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A token classification that sees the last token alone: attention and MLP add 0."""
    path = tmp_path_factory.mktemp("steps") / "model"
    config = DecoderConfig(
        vocab_size=64, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8,
        max_positions=64,
    )  # fmt: skip
    params = init_params(config, jax.random.key(0))
    layer = params["layers"]
    for part in (layer["attn"]["o"], layer["mlp"]["down"]):
        part["kernel"] *= 0.0
    embedding = np.zeros((64, 8), np.float32)
    embedding[:, 7] = 1.0
    ids = len(SPECIAL) + 3 + np.array([LETTERS.index(letter) for letter in SAYS])
    embedding[ids] = np.eye(8)[:3]
    params["embed"]["embedding"] = embedding
    save_reward_model(path, config, params, np.zeros(8))
    tensors = load_file(path / "model.safetensors")
    odds = [np.log(p / (1 - p)) for p in SAYS.values()]
    score = np.zeros((2, 8), np.float32)
    score[0, :3] = np.array(odds) / np.sqrt(8)  # RMSNorm makes √8 of 1
    save_file(tensors | {"score.weight": score}, path / "model.safetensors", {"format": "pt"})
    fields = json.loads((path / "config.json").read_text())
    fields |= {"architectures": ["LlamaForTokenClassification"]}
    fields |= {"id2label": {"0": "Correct", "1": "wrong"}}
    (path / "config.json").write_text(json.dumps(fields))
    write_tokenizer(path)
    return path


def line(number, split, label, ends):
    return {
        "id": f"{split}-{number}", "generator": "m", "problem": f"problem {number // 2}?",
        "steps": [f"step {end}" for end in ends], "final_answer_correct": label == -1,
        "label": label,
    }  # fmt: skip


def lines(says="nm"):
    """Twenty-four lines of two splits; what the model says is right in most."""
    wrong, unsure = says
    cases = [
        (-1, "yyy"), (1, f"y{wrong}"), (0, f"{wrong}y{wrong}"), (-1, f"yy{unsure}"),
        (1, f"y{wrong}y"), (-1, f"y{wrong}"), (2, f"yy{wrong}"), (-1, "y"),
    ]  # fmt: skip
    return [line(i, ("math", "gsm8k", "math")[i // 8], *cases[i % 8]) for i in range(24)]


def launch(model, data, run, **own):
    main(replace(CONFIG, data=data, benchmark="processbench", model=str(model), run_dir=run,
                 separator="", **own))  # fmt: skip
    return json.loads((run / "summary.json").read_text())


def test_the_first_wrong_step_is_below_the_threshold(model_dir, tmp_path, capsys):
    rows = lines()
    array = tmp_path / "both.json"
    array.write_text(json.dumps(rows, indent=2))
    summary = launch(model_dir, array, tmp_path / "run")
    scored = read_rows(tmp_path / "run/scores.jsonl")
    for row, one in zip(rows, scored, strict=True):
        assert row["id"] == one["id"]
        want = [SAYS[step[-1]] for step in row["steps"]]
        np.testing.assert_allclose(one["steps"], want, atol=1e-5)
    values = []
    for split, found in summary["splits"].items():
        own = [row for row in rows if row["id"].startswith(split)]
        guess = [next((i for i, step in enumerate(row["steps"]) if step[-1] == "n"), -1)
                 for row in own]  # fmt: skip
        want = oracle.processbench(guess, [row["label"] for row in own])
        assert [found[m][0] for m in ("error", "correct", "f1")] == pytest.approx(want)
        assert found["solutions"] == len(own)
        assert found["f1"][1] <= found["f1"][0] <= found["f1"][2]
        values.append(want[2])
    assert list(summary["splits"]) == ["gsm8k", "math"]
    assert summary["f1"][0] == pytest.approx(np.mean(values)) and 0.5 < np.mean(values) < 1
    said, page = capsys.readouterr().out, (tmp_path / "run/report.html").read_text()
    assert "below 0.5, given" in said and "Not the whole benchmark" in page
    known = PUBLISHED["processbench"]
    assert summary["published"] == vars(known) and known.where in page


def test_a_threshold_is_chosen_on_what_is_not_counted(model_dir, tmp_path, capsys):
    """Wrong steps have 0.605 here: 0.5 finds none of them."""
    rows = [row for row in lines("my") if row["id"].split("-")[1] not in ("4", "5")] * 4
    data = write_jsonl(tmp_path / "x.jsonl", rows)
    given = launch(model_dir, data, tmp_path / "given")
    assert given["f1"][0] == 0.0 and given["held_out"] == 0
    chosen = launch(model_dir, data, tmp_path / "chosen", threshold=None)
    assert 0.6 < chosen["threshold"] <= 0.7 and chosen["f1"][0] > 0.7
    assert chosen["held_out"] + chosen["solutions"] == len(rows)
    assert f"chosen on {chosen['held_out']} solutions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": "aime-1"}, '`id` is "aime-1"; expected a line of ProcessBench'),
        ({"label": 9}, "`label` is 9 of 3 steps; expected a line of ProcessBench"),
        ({"steps": None}, r"x\.jsonl:1: no field `steps` \(fields: .*expected a line of Process"),
    ],
)
def test_a_file_of_another_version_is_refused(change, match, model_dir, tmp_path):
    first = {k: v for k, v in (lines()[0] | change).items() if v is not None}
    data = write_jsonl(tmp_path / "x.jsonl", [first, *lines()[1:]])
    with pytest.raises(InputError, match=match):
        launch(model_dir, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused(model_dir, tmp_path):
    data = write_jsonl(tmp_path / "x.jsonl", lines())
    with pytest.raises(InputError, match=r"labels Correct, wrong; no 'x', --read.label"):
        launch(model_dir, data, tmp_path / "run", read=ReadConfig(label="x"))
    right = write_jsonl(tmp_path / "y.jsonl", [row for row in lines() if row["label"] == -1])
    with pytest.raises(InputError, match=r"y.jsonl: gsm8k: expected solutions with an error and"):
        launch(model_dir, right, tmp_path / "run")
    for read in (ReadConfig(chat="dialogue"), ReadConfig(max_prompt=5)):
        with pytest.raises(InputError, match=r"read\.(chat|max_prompt): "):
            launch(model_dir, data, tmp_path / "run", read=read)
    with pytest.raises(InputError, match="threshold: "):
        replace(CONFIG, benchmark="processbench", threshold=1.5)
    with pytest.raises(InputError, match="are of --benchmark processbench"):
        replace(CONFIG, benchmark="rm-bench", separator="x")
    with pytest.raises(InputError, match="held_out: a process reward model holds nothing out"):
        replace(CONFIG, benchmark="processbench", held_out=True)
