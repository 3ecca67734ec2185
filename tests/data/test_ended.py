"""Chat templates that end with one EOS: the tokens that a reward was trained to read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irl_jax.data.chat import DIALOGUE_TEMPLATE, render_chat
from irl_jax.data.encode import Encoder
from irl_jax.data.encode_whole import WholeEncoder, common
from irl_jax.data.ended import ended_template, reward_tokenizer
from irl_jax.data.jsonl import GroupRecord
from irl_jax.types import InputError
from tests.data.kinds import LLAMA2, ZEPHYR

BREAKS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEMPLATES = {
    "a break behind EOS": BREAKS,
    "a break at its own end": BREAKS + "\n",
    "blocks on lines of their own": (
        "  {% set turns = messages %}\n  {% for m in turns %}\n"
        "{{ 'A' if m.role == 'assistant' else 'U' }}{{ m.content }}{{ eos_token }}\n"
        "  {% endfor %}\n  {% if add_generation_prompt %}{{ 'A' }}{% endif %}\n"
    ),
    "no EOS": DIALOGUE_TEMPLATE,
    "zephyr": ZEPHYR,
    "llama 2": LLAMA2,
}
RECORDS = [
    GroupRecord("p q", ["c d", "r"], {}, "f:1"),
    GroupRecord(
        [
            {"role": "user", "content": "p"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "q"},
        ],
        ["d ", "d r"],
        {},
        "f:2",
    ),
]


@pytest.mark.parametrize("add_bos", [None, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_whole_is_what_the_reward_was_trained_on(name, add_bos, spm):
    own = replace(spm, chat_template=TEMPLATES[name])
    trained = Encoder(own, 99, 99, template=TEMPLATES[name], add_bos=add_bos).groups(RECORDS)
    tokenizer, pad = reward_tokenizer(own, TEMPLATES[name], add_bos)
    assert pad == spm.pad_id != spm.eos_id
    whole = WholeEncoder(tokenizer, 99, tokenizer.chat_template, pad).groups(RECORDS)
    for before, after in zip(trained, whole, strict=True):
        for old, new in zip(before.completions, after.completions, strict=True):
            assert after.prompt + new == before.prompt + old
    prompt = render_chat(
        tokenizer.chat_template, "p", add_generation_prompt=True, tokens=spm.template_tokens
    )
    expected = render_chat(
        TEMPLATES[name], "p", add_generation_prompt=True, tokens=spm.template_tokens
    )
    assert prompt.removeprefix("<s>") == expected.removeprefix("<s>")


def test_another_template_begins_with_bos_as_the_tokenizer_says(spm):
    own = replace(spm, add_bos=True)
    record = RECORDS[0]
    (trained,) = Encoder(own, 99, 99, template=DIALOGUE_TEMPLATE).groups([record])
    tokenizer, _ = reward_tokenizer(own, DIALOGUE_TEMPLATE, None)
    (exported,) = WholeEncoder(tokenizer, 99, tokenizer.chat_template).groups([record])
    assert exported.prompt + exported.completions[0] == trained.prompt + trained.completions[0]
    (given,) = WholeEncoder(own, 99, DIALOGUE_TEMPLATE).groups([record])
    text = "\n\nHuman: p q\n\nAssistant: c d"
    assert given.prompt + given.completions[0] == own.encode(text, add_bos=True)


def test_a_template_that_ends_with_eos_stays(spm):
    assert ended_template(spm.chat_template, spm.template_tokens) == spm.chat_template


def test_a_template_that_refuses_goes_on_refusing(spm):
    refuses = "{{ raise_exception('system first') }}"
    ended = ended_template(refuses, spm.template_tokens)
    with pytest.raises(InputError, match="system first"):
        render_chat(ended, "p", add_generation_prompt=False, tokens=spm.template_tokens)


@pytest.mark.parametrize("add_bos", [None, True])
def test_without_a_template(add_bos, spm):
    own = replace(spm, chat_template=None)
    records = RECORDS[:1]
    trained = Encoder(own, 99, 99, add_bos=add_bos).groups(records)
    tokenizer, _ = reward_tokenizer(own, None, add_bos)
    (whole,) = WholeEncoder(tokenizer, 99).groups(records)
    for old, new in zip(trained[0].completions, whole.completions, strict=True):
        assert whole.prompt + new == trained[0].prompt + old


def test_what_pads_is_not_eos(spm):
    """The token of its own, else that of the unknown; else there is none."""
    same = replace(spm, pad_token=spm.eos_token, special={"unk_token": "<unk>"})
    tokenizer, pad = reward_tokenizer(same, spm.chat_template, None)
    assert tokenizer.pad_token == "<unk>" and pad == spm.backend.token_to_id("<unk>")
    tokenizer, pad = reward_tokenizer(replace(same, special={}), spm.chat_template, None)
    assert tokenizer.pad_token is None and pad is None


def test_what_all_responses_begin_with_is_shared_and_something_is_left(spm):
    record = GroupRecord("p q", ["c d", "c d"], {}, "f:1")
    (group,) = WholeEncoder(spm, 99, spm.chat_template).groups([record])
    assert group.completions == [[spm.eos_id], [spm.eos_id]]
    (cut,) = WholeEncoder(spm, 99, spm.chat_template, spm.eos_id).groups([record])
    assert cut.prompt + cut.completions[0] == group.prompt
    assert common([[1, 2], [1, 2]]) == 2 and common([[1], [2]]) == 0


def test_what_cannot_be_read(spm):
    record = GroupRecord("p q", ["c d", "r"], {}, "f:1")
    with pytest.raises(InputError, match=r"^f:1: the conversation has \d+ tokens, over the"):
        WholeEncoder(spm, 3, spm.chat_template).groups([record])
    blank = "{{ messages[-1].content }}"
    with pytest.raises(InputError, match=r"^f:1: a conversation has fewer than 2 tokens"):
        WholeEncoder(spm, 9, blank).groups([record])
