"""Published reward models: texts to scores, as transformers has it."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.data.encode_whole import WholeEncoder
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import forward
from irl_jax.models.heads import apply_scalar_head
from irl_jax.models.huggingface import load_huggingface
from irl_jax.models.reward_files import load_reward_model, save_reward_model
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.published import published_scorer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.score import main
from irl_jax.recipes.score_config import CONFIG
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import ROWS, as_messages, complaint, write_jsonl
from tests.experiments.test_score import summary_of

QUIET = Progress(io.StringIO())
TURNS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token + '\n' }}{% endfor %}"
)
SYSTEM_TEXT = "{{ '<|system|>It is calm.' + eos_token + '\n' }}"
TEMPLATES = {
    "a break behind EOS": TURNS,
    "nothing behind EOS": TURNS.replace(" + '\n'", ""),
    "no EOS": TURNS.replace(" + eos_token", ""),
    "a system turn by default": (
        f"{{% if messages[0].role != 'system' %}}{SYSTEM_TEXT}{{% endif %}}{TURNS}"
    ),
    "no system turn": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + TURNS
    ),
}


def conversations(system: bool) -> list[GroupRecord]:
    """Prompts of a text, of a message and of several, with two to five responses each."""
    found = []
    for i, count in enumerate((2, 5, 3, 2)):
        texts = [row[side] for row in ROWS[i : i + 3] for side in ("chosen", "rejected")][:count]
        say = lambda role, text: {"role": role, "content": text}
        turns = [say("user", ROWS[i]["prompt"])]
        if i == 2:
            turns += [say("assistant", "It is."), say("user", "Why?")]
        if system and i == 1:
            turns = [say("system", "It is kind."), *turns]
        prompt = ROWS[i]["prompt"] if i == 0 else turns
        found.append(GroupRecord(prompt, texts, {}, f"x:{i}"))
    return found


def directory(tiny_model_dir: Path, path: Path, template: str | None, pad: int | None) -> Path:
    """A reward model on the tiny model, with a chat template of its own."""
    config, params = load_huggingface(tiny_model_dir)
    kernel = np.random.default_rng(0).normal(size=config.d_model).astype(np.float32)
    save_reward_model(path, config, params, kernel, pad_token_id=pad)
    tokenizer = Tokenizer.from_directory(tiny_model_dir)
    replace(tokenizer, chat_template=template).save(path)
    return path


def messages_of(record: GroupRecord, text: str) -> list[dict]:
    start = record.prompt
    if isinstance(start, str):
        start = [{"role": "user", "content": start}]
    return [*start, {"role": "assistant", "content": text}]


@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_and_scores_are_those_of_transformers(name, tiny_model_dir, tmp_path):
    """The template's own rendering, one conversation at a time, through their model."""
    transformers = pytest.importorskip("transformers", reason='needs pip install "irl_jax[parity]"')
    torch = pytest.importorskip("torch", reason='needs pip install "irl_jax[parity]"')
    own = Tokenizer.from_directory(tiny_model_dir)
    path = directory(tiny_model_dir, tmp_path / "rm", TEMPLATES[name], own.pad_id)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    records = conversations(system=name != "no system turn")
    rewards = published_scorer(path, ReadConfig(batch_size=3), QUIET)(records)
    encoder = WholeEncoder(Tokenizer.from_directory(path), 512, TEMPLATES[name])
    for record, scores in zip(records, rewards, strict=True):
        chats = [messages_of(record, text) for text in record.completions]
        (group,) = encoder.groups([record])
        for chat, score, rest in zip(chats, scores, group.completions, strict=True):
            text = theirs.apply_chat_template(chat, tokenize=False)
            ids = theirs(text, add_special_tokens=False)["input_ids"]
            assert group.prompt + rest == ids
            with torch.no_grad():
                want = model(torch.tensor([ids])).logits[0, 0].item()
            assert score == pytest.approx(want, rel=1e-4, abs=1e-4)


def last_token_scores(path: Path, rows: list[list[int]]) -> list[float]:
    """The head on the last token of each row, read alone."""
    model = load_reward_model(path)
    read = lambda ids: forward(model.config, model.params, np.array([ids]))[0][0, -1]
    return [float(apply_scalar_head(model.head, read(ids))) for ids in rows]


def test_the_token_that_pads_is_not_read(tiny_model_dir, tmp_path):
    """Where a model pads with EOS, the EOS at the end is not what transformers reads."""
    tokenizer = Tokenizer.from_directory(tiny_model_dir)
    template = TEMPLATES["nothing behind EOS"]
    record = GroupRecord("It is", ["so", "so calm"], {}, "x:1")
    for pad, cut in ((tokenizer.eos_id, 1), (tokenizer.pad_id, 0), (None, 0)):
        path = directory(tiny_model_dir, tmp_path / str(pad), template, pad)
        text = "<|user|>It is</s><|assistant|>{}</s>"
        rows = [tokenizer.encode(text.format(each)) for each in record.completions]
        assert [ids[-1] for ids in rows] == [tokenizer.eos_id] * 2
        want = last_token_scores(path, [ids[: len(ids) - cut] for ids in rows])
        (got,) = published_scorer(path, ReadConfig(), QUIET)([record])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_without_a_template_a_response_ends_with_eos(tiny_model_dir, tmp_path):
    tokenizer = Tokenizer.from_directory(tiny_model_dir)
    path = directory(tiny_model_dir, tmp_path / "rm", None, tokenizer.pad_id)
    record = GroupRecord("It is", [" so", " so calm"], {}, "x:1")
    rows = [tokenizer.encode("It is" + each, add_eos=True) for each in record.completions]
    (got,) = published_scorer(path, ReadConfig(), QUIET)([record])
    np.testing.assert_allclose(got, last_token_scores(path, rows), rtol=1e-4, atol=1e-5)
    chat = replace(record, prompt=[{"role": "user", "content": "It is"}])
    with pytest.raises(InputError, match="x:1"):
        published_scorer(path, ReadConfig(), QUIET)([chat])
    (dialogue,) = published_scorer(path, ReadConfig(chat="dialogue"), QUIET)([chat])
    text = "\n\nHuman: It is\n\nAssistant: {}"
    rows = [tokenizer.encode(text.format(each)) for each in record.completions]
    np.testing.assert_allclose(dialogue, last_token_scores(path, rows), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def published(tiny_model_dir, tmp_path_factory) -> Path:
    """A reward model's directory; not to be written to."""
    place = tmp_path_factory.mktemp("published") / "rm"
    return directory(tiny_model_dir, place, TEMPLATES["no system turn"], 0)


def test_a_whole_run(published, tmp_path):
    rows = [as_messages(row) if i % 2 else row for i, row in enumerate(ROWS[:10])]
    data = write_jsonl(tmp_path / "prefs.jsonl", rows)
    config = replace(
        CONFIG, data=data, model=str(published), run_dir=tmp_path / "run", limit=8, edits=3
    )
    main(config)
    summary = summary_of(config)
    rewards = np.array([row["rewards"] for row in read_rows(config.run_dir / "scores.jsonl")])
    assert summary["records"] == 8 and rewards.shape == (8, 2)
    assert summary["accuracy"][0] == (rewards[:, 0] > rewards[:, 1]).mean()
    assert sum(summary["calibration"]["bins"]["count"]) == 8  # one label: log-odds
    assert summary["edits"]["trailing break"]["changed"] == 6
    assert "<svg" in (config.run_dir / "report.html").read_text()


def test_one_of_several_labels(published, tmp_path):
    path = shutil.copytree(published, tmp_path / "rm")
    tensors = load_file(path / "model.safetensors")
    one = tensors["score.weight"]
    save_file(
        tensors | {"score.weight": np.concatenate([one, -2 * one])}, path / "model.safetensors"
    )
    fields = json.loads((path / "config.json").read_text()) | {"id2label": {"0": "a", "1": "b"}}
    (path / "config.json").write_text(json.dumps(fields))
    record = GroupRecord("It is", ["so", "so calm"], {}, "x:1")
    a, b = (
        published_scorer(path, ReadConfig(label=name), QUIET)([record])[0] for name in ("a", "b")
    )
    np.testing.assert_allclose(b, -2 * a, rtol=1e-5)
    data = write_jsonl(tmp_path / "prefs.jsonl", ROWS[:4])
    config = replace(CONFIG, data=data, model=str(path), run_dir=tmp_path / "run", edits=0)
    with pytest.raises(InputError, match=r"rm: has the labels a, b; say which one is the reward"):
        main(config)
    assert not (tmp_path / "run").exists()
    main(replace(config, read=ReadConfig(label="b")))
    assert summary_of(config)["calibration"] is None  # several labels: ratings, no log-odds


def language_model(path: Path, place: Path) -> tuple[list[str], str]:
    fields = json.loads((path / "config.json").read_text())
    fields["architectures"] = ["LlamaForCausalLM"]
    (path / "config.json").write_text(json.dumps(fields))
    return [], r"\S+rm: is a language model \(LlamaForCausalLM\), no reward model; expected Llama"


def unsupported(path: Path, place: Path) -> tuple[list[str], str]:
    fields = json.loads((path / "config.json").read_text()) | {"model_type": "gpt_neox"}
    (path / "config.json").write_text(json.dumps(fields))
    return [], r'\S+config\.json: model_type "gpt_neox" is not supported; only llama'


def no_head(path: Path, place: Path) -> tuple[list[str], str]:
    tensors = load_file(path / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, path / "model.safetensors")
    return [], r"\S+rm: tensor score\.weight is missing"


def as_likelihood(path: Path, place: Path) -> tuple[list[str], str]:
    return ["--reward", "likelihood"], r"\S+rm: is a reward model \(LlamaForSequenceClassification"


def held_out(path: Path, place: Path) -> tuple[list[str], str]:
    return ["--held-out"], r"held_out: \S+rm: is a reward model's directory, no run"


def a_limit(path: Path, place: Path) -> tuple[list[str], str]:
    return ["--read.max-prompt", "9"], r"read\.max_prompt: \S+rm: is a reward model's directory"


def a_cut(path: Path, place: Path) -> tuple[list[str], str]:
    return ["--read.overlong", "truncate"], r"read\.overlong: \S+rm: a reward model reads whole"


def system_turn(path: Path, place: Path) -> tuple[list[str], str]:
    say = lambda role: {"role": role, "content": "It is"}
    row = as_messages(ROWS[0])
    write_jsonl(place, [*ROWS[:3], row | {"prompt": [say("system"), *row["prompt"]]}])
    return [], r"\S+prefs\.jsonl:4: chat template: no system role; it does not take a conversation"


def too_long(path: Path, place: Path) -> tuple[list[str], str]:
    write_jsonl(place, [*ROWS[:3], ROWS[0] | {"chosen": "It is " + "long " * 400}])
    return [], r"\S+prefs\.jsonl:4: the conversation has \d+ tokens, over the model's \d+; leave"


MISTAKES = (
    language_model, unsupported, no_head, as_likelihood, held_out, a_limit, a_cut, system_turn,
    too_long,
)  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.__name__)
def test_mistakes_are_one_line(case, published, tmp_path, capsys):
    path = shutil.copytree(published, tmp_path / "rm")
    data = write_jsonl(tmp_path / "prefs.jsonl", ROWS[:6])
    config = replace(CONFIG, data=data, model=str(path), run_dir=tmp_path / "run", edits=0)
    args, says = case(path, data)
    with pytest.raises(SystemExit) as stop:
        run_cli(main, config, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert re.match(says, complaint(captured.err)), captured.err
    assert not (tmp_path / "run" / "summary.json").exists()
