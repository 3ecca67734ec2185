"""Records to token ids: template, EOS, limits."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from irl_jax.data.encode import Encoder, untied
from irl_jax.data.jsonl import DemonstrationRecord, GroupRecord, PreferenceRecord, PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError

USER = {"role": "user", "content": "p q"}
PROMPT = [{"role": "system", "content": "s"}, USER]


def answer(text):
    return [{"role": "assistant", "content": text}]


def preference(prompt="p q", chosen="c d", rejected="r", source="f:1"):
    return PreferenceRecord(prompt, chosen, rejected, 0.5, 2.0, source)


def test_plain_texts_are_taken_as_they_are(spm):
    (pair,) = Encoder(spm, 50, 50).preferences([preference()])
    assert pair.prompt == spm.encode("p q")
    assert pair.chosen == [*spm.encode("c d"), spm.eos_id]
    assert pair.rejected == [*spm.encode("r"), spm.eos_id]
    assert (pair.margin, pair.weight, pair.source) == (0.5, 2.0, "f:1")
    assert pair.lengths == (len(pair.prompt), len(pair.chosen))


@pytest.mark.parametrize("prompt", [PROMPT, "p q"])
def test_template_makes_whole_conversations(prompt, spm):
    encoder = Encoder(spm, 50, 50, template=spm.chat_template)
    (pair,) = encoder.preferences([preference(prompt, "c d", "r")])
    system = "<|system|>s</s>" if prompt == PROMPT else ""
    head = f"{system}<|user|>p q</s><|assistant|>"
    assert pair.prompt == spm.encode(head)
    assert pair.prompt + pair.chosen == spm.encode(head + "c d</s>")
    assert pair.prompt + pair.rejected == spm.encode(head + "r</s>")
    (prompt_alone,) = encoder.prompts([PromptRecord(prompt, {"answer": 1}, "f:1")])
    assert prompt_alone.prompt == pair.prompt
    assert prompt_alone.record.fields == {"answer": 1}
    (demonstration,) = encoder.demonstrations([DemonstrationRecord(prompt, answer("r"), "f:1")])
    assert demonstration.prompt == pair.prompt
    assert demonstration.completion == pair.rejected


def test_smollm2_completion_has_one_eos(smollm2):
    encoder = Encoder(smollm2, 100, 50, template=smollm2.chat_template)
    (pair,) = encoder.preferences([preference([USER], answer("c d"), answer(""))])
    assert pair.chosen == [*smollm2.encode("c d"), smollm2.eos_id]
    assert pair.rejected == [smollm2.eos_id]
    assert smollm2.decode(pair.prompt, False).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_bos_is_added_when_asked(spm):
    (prompt,) = Encoder(spm, 50, 50, add_bos=True).prompts([PromptRecord("", {}, "f:1")])
    assert prompt.prompt == [spm.bos_id]


def test_limits_are_inclusive(spm):
    record = preference()
    (pair,) = Encoder(spm, 50, 50).preferences([record])
    n, t = pair.lengths
    assert Encoder(spm, n, t).preferences([record]) == [pair]
    for limits, name, length in [((n - 1, t), "prompt", n), ((n, t - 1), "completion", t)]:
        message = f"f:1: the {name} has {length} tokens, over max_{name} {length - 1}; raise"
        with pytest.raises(InputError, match=re.escape(message)):
            Encoder(spm, *limits).preferences([record])


def test_dropping_and_truncating(spm):
    records = [preference(source="f:1"), preference(prompt="p" * 30, source="f:2")]
    kept = Encoder(spm, 10, 10, overlong="drop").preferences(records)
    assert [pair.source for pair in kept] == ["f:1"]
    long = preference(prompt="abc" * 10, chosen="xyz" * 10, rejected="r")
    (pair,) = Encoder(spm, 4, 5, overlong="truncate").preferences([long])
    assert pair.prompt == spm.encode("abc" * 10)[-4:]
    assert pair.chosen == spm.encode("xyz" * 10)[:5]
    assert pair.rejected == [*spm.encode("r"), spm.eos_id]


def test_sides_that_a_template_or_a_cut_makes_equal_are_ties(spm):
    trims = "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content | trim) }}{% endfor %}"
    trims += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    spaces, cut = preference(chosen="c d\n", rejected="c d"), preference(chosen="c d e f g")
    cut = replace(cut, rejected="c d e f h")
    for encoder, tie in (
        (Encoder(spm, 50, 50, template=trims), spaces),
        (Encoder(spm, 50, 2, overlong="truncate"), cut),
    ):
        tie = replace(tie, source="f:2")
        records = [preference(), tie]
        with pytest.raises(InputError, match=r"^f:2: `chosen` and `rejected` are the same tokens"):
            encoder.preferences(records)
        assert [pair.source for pair in encoder.preferences(records, ties="drop")] == ["f:1"]
        kept = encoder.preferences(records, ties="keep")
        assert kept[1].chosen == kept[1].rejected
        assert untied(kept, "drop") == kept[:1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (preference(prompt=""), "f:1: the prompt has no tokens; write one, or encode with add_bos"),
        (preference([USER], answer("c"), answer("r")), "f:1: messages need a chat template"),
    ],
)
def test_errors(record, message, spm):
    with pytest.raises(InputError, match=message):
        Encoder(spm, 50, 50).preferences([record])


def test_template_errors_name_the_line(spm):
    template = "{{ raise_exception('no system') }}"
    encoder = Encoder(spm, 50, 50, template=template)
    with pytest.raises(InputError, match="f:1: chat template: no system"):
        encoder.preferences([preference()])
    with pytest.raises(InputError, match="f:9: chat template: no system"):
        encoder.prompts([PromptRecord("p", {}, "f:9")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_prompt": 0}, "max_prompt: expected 1 or more, got 0"),
        ({"max_completion": 0}, "max_completion: expected 1 or more, got 0"),
        ({"overlong": "cut"}, "overlong: expected error, drop or truncate, got 'cut'"),
    ],
)
def test_settings_errors(options, message, spm):
    with pytest.raises(InputError, match=message):
        Encoder(**{"tokenizer": spm, "max_prompt": 5, "max_completion": 5, **options})


def test_bos_without_a_bos_token(spm):
    tokenizer = Tokenizer(spm.backend, eos_token="</s>")
    with pytest.raises(InputError, match="no BOS token"):
        Encoder(tokenizer, 5, 5, add_bos=True).prompts([PromptRecord("p", {}, "f:1")])


def test_groups_are_encoded_as_pairs_are(spm):
    encoder = Encoder(spm, 50, 50)
    record = GroupRecord("p q", ["c d", "r", "c"], {}, "f:1")
    (group,) = encoder.groups([record])
    (pair,) = encoder.preferences([preference("p q", "c d", "r")])
    assert group.prompt == pair.prompt
    assert group.completions[:2] == [pair.chosen, pair.rejected]
    assert group.lengths == (len(pair.prompt), max(map(len, group.completions)))
    assert encoder.groups([]) == []


def test_groups_of_different_sizes_are_named(spm):
    records = [GroupRecord("p", ["c"] * k, {}, f"f:{k}") for k in (2, 3)]
    with pytest.raises(InputError, match=r"f:3: 3 completions, others have 2"):
        Encoder(spm, 50, 50).groups(records)
