"""Experiments encode texts as the tokenizer's files say: BOS, continuations, control tokens."""

from __future__ import annotations

import json
from dataclasses import replace

import jax.numpy as jnp
import pytest

from experiments.gsm8k import tasks as gsm8k_tasks
from irl_jax.data.jsonl import PreferenceRecord
from irl_jax.data.kinds import KINDS
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import DecoderConfig
from irl_jax.recipes import examples, judging
from irl_jax.recipes.cli import parse
from irl_jax.rewards.judge import VERDICTS, comparison
from irl_jax.rollout.session import LanguageModel
from tests.data.kinds import MISTRAL, sentence_pieces

SHAPE = DecoderConfig(
    vocab_size=400,
    d_model=8,
    n_layers=1,
    n_heads=1,
    n_kv_heads=1,
    head_dim=8,
    d_ff=8,
    max_positions=2048,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> LanguageModel:
    """A base model's tokenizer: a dummy prefix, BOS before a text, no chat template."""
    directory = tmp_path_factory.mktemp("base")
    sentence_pieces(directory, "bpe", prefix=True, add_bos_token=True)
    return LanguageModel(SHAPE, {}, Tokenizer.from_directory(directory))


def test_questions_to_a_base_model_begin_with_bos(base, tmp_path):
    rows = [{"question": f"What is {n} plus 30?", "answer": f"#### {n + 30}"} for n in (1, 2, 3)]
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    config = gsm8k_tasks.DataConfig(
        tmp_path / "train.jsonl", tmp_path / "test.jsonl", prompt="Q: {question}", chat=False
    )
    for side in gsm8k_tasks.encode(config, base):
        for item, row in zip(side, rows, strict=True):
            text = base.tokenizer.encode(f"Q: {row['question']}")
            assert item.prompt == [base.tokenizer.bos_id, *text]


def pairs(config, model, prompt="It rains in") -> list:
    records = [
        PreferenceRecord(f"{prompt} {n}", " the fox", " a dog", 0.0, 1.0, f"f:{n}")
        for n in range(4)
    ]
    return examples.encode(config, KINDS["pairs"], model, records[:2], records[2:]).train


@pytest.mark.parametrize(("add", "expected"), [(None, True), (True, True), (False, False)])
@pytest.mark.parametrize("chat", ["model", "dialogue"])
def test_preferences_of_a_base_model_begin_as_the_flag_says(add, expected, chat, base):
    pair = pairs(examples.DataConfig(add_bos=add, chat=chat), base)[0]
    assert (pair.prompt[0] == base.tokenizer.bos_id) == expected
    assert pair.prompt.count(base.tokenizer.bos_id) == expected


def test_control_tokens_of_prompts_are_as_the_flag_says(base, capsys):
    letters = pairs(examples.DataConfig(control="text"), base, prompt="a</s>b")[0]
    assert base.tokenizer.eos_id not in letters.prompt
    parsed = pairs(examples.DataConfig(), base, prompt="a</s>b")[0]
    assert base.tokenizer.eos_id in parsed.prompt
    assert "f:0: the first of 2 control tokens" in capsys.readouterr().err


def test_flags():
    config = parse(examples.DataConfig(), ["--add-bos", "True", "--control", "text"])
    assert (config.add_bos, config.control) == (True, "text")


def test_a_verdict_is_the_token_that_follows_the_prompt(base, monkeypatch):
    asked = []

    def log_odds(shape, params, prompt, tokens):
        asked.append(tokens)
        return jnp.zeros(prompt.tokens.shape[0])

    monkeypatch.setattr(judging, "verdict_log_odds", log_odds)
    judge = replace(base, tokenizer=replace(base.tokenizer, chat_template=MISTRAL))
    pair = ("rain?", "yes", "no")
    judging.ask(judge, [pair], max_prompt=1500, batch_size=2, advance=lambda done, rows: None)
    head = f"<s>[INST] {comparison(*pair)} [/INST]"
    whole = [judge.tokenizer.encode(head + verdict) for verdict in VERDICTS]
    n = len(judge.tokenizer.encode(head))
    assert asked[0] == tuple(ids[n] for ids in whole)
    assert [judge.tokenizer.backend.id_to_token(i) for i in asked[0]] != ["▁A", "▁B"]
