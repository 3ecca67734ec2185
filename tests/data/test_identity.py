"""Prompts that a model sees as one text are one prompt."""

from __future__ import annotations

import json

import pytest

from irl_jax.data.builders import HeldOut, prepare
from irl_jax.data.chat import DIALOGUE_TEMPLATE
from irl_jax.data.identity import Identity
from irl_jax.data.kinds import KINDS
from irl_jax.types import InputError

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
TRIMMED = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}"


def say(role, content):
    return {"role": role, "content": content}


A_B = [say("user", "a"), say("assistant", "b")]
SYSTEM, USER = [say("system", "s"), say("user", "q")], [say("user", "s"), say("user", "q")]


def of(template):
    return Identity(template, {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize(
    ("template", "one", "other", "same"),
    [
        (CHATML, "Hi", [say("user", "Hi")], True),
        (CHATML, "Hi", [say("system", "Be helpful."), say("user", "Hi")], True),
        (CHATML, "Hi", [say("system", "Be brief."), say("user", "Hi")], False),
        (CHATML, "Hi", "Hi ", False),
        (CHATML, "Hi", [say("user", "Hi"), say("assistant", ""), say("user", "")], False),
        (TRIMMED, "Hi", " Hi\n", True),
        (TRIMMED, [say("user", "a "), say("assistant", " b")], A_B, True),
        (TRIMMED, "Hi", [say("user", "Hi"), say("user", " ")], False),
        (DIALOGUE_TEMPLATE, SYSTEM, USER, True),
        (DIALOGUE_TEMPLATE, "Hi", [say("user", "Hi")], True),
        (None, "Hi", "Hi", True),
        (None, "Hi", "Hi ", False),
    ],
)  # fmt: skip
def test_prompts_are_one_where_they_are_rendered_alike(template, one, other, same):
    assert (of(template)(one) == of(template)(other)) is same
    sides = lambda prompt: [HeldOut(0.5, s, of(template)).name(prompt) for s in range(20)]
    assert (sides(one) == sides(other)) is same


def test_messages_without_a_plainer_form_are_split_as_before():
    """Files of messages, HH-RLHF among them, keep the split of earlier versions."""
    prompts = [[say("user", f"q{i}"), say("assistant", "a"), say("user", "r")] for i in range(50)]
    prompts += [[say("user", f"q{i}")] for i in range(50)]
    for template in (CHATML, DIALOGUE_TEMPLATE, TRIMMED):
        for prompt in prompts:
            assert of(template)(prompt) == prompt
            assert HeldOut(0.3, 0, of(template)).name(prompt) == HeldOut(0.3, 0).name(prompt)
    assert HeldOut(0.3, 0, of(None)).name("q") == HeldOut(0.3, 0).name("q")


def test_a_prompt_that_the_template_refuses_is_named(tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refuses = of("{% if messages[0].content == 'q1' %}{{ raise_exception('no') }}{% endif %}")
    with pytest.raises(InputError, match=r"x\.jsonl:2: chat template: no"):
        prepare(KINDS["pairs"], file, tmp_path / "c", fraction=0.5, seed=0, identity=refuses)
    assert not (tmp_path / "c").exists()
