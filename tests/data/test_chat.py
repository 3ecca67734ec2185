"""Chat templates against transformers' own rendering."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from irl_jax.data.chat import DIALOGUE_TEMPLATE, render_chat, split_chat
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is 2 + 2?"}
ASSISTANT = {"role": "assistant", "content": "4."}

CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ASSISTANT, {"role": "user", "content": " And\n\n3 + 3? "}],
    "answered": [SYSTEM, USER, ASSISTANT],
    "unicode": [{"role": "user", "content": "日本語 👨‍👩‍👧 {{ braces }} {% tags %} <|im_end|>"}],
    "empty": [{"role": "user", "content": ""}],
}

# blocks, whitespace control, loops with break, filters, functions and None tests
FEATURES = """
{%- if tools is not none %}{{ raise_exception('no tools') }}{% endif %}
{{- bos_token }}
{% for message in messages %}
    {% if message['role'] == 'system' %}
        {% continue %}
    {% endif %}
[{{ message.role | upper }}] {{ message['content'] | trim }}{{ eos_token }}
{{ {'b': message.content, 'a': '<é>'} | tojson }}
    {% generation %}{{ loop.index }}{% endgeneration %}
    {% if loop.index > 3 %}{% break %}{% endif %}
{% endfor %}
{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}
{{ ns.n }} {{ messages | length }} {{ strftime_now('%Y') }}
{% if add_generation_prompt %}
[ASSISTANT]
{%- endif %}
"""


@pytest.fixture(scope="module")
def reference(smollm2, transformers, tmp_path_factory):
    directory = tmp_path_factory.mktemp("smollm2")
    smollm2.save(directory)
    return transformers.AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("add_generation_prompt", [False, True])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("template", [None, FEATURES, DIALOGUE_TEMPLATE])
def test_text_is_that_of_transformers(template, name, add_generation_prompt, smollm2, reference):
    expected = reference.apply_chat_template(
        CONVERSATIONS[name],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
    )
    text = render_chat(
        template or smollm2.chat_template,
        CONVERSATIONS[name],
        add_generation_prompt=add_generation_prompt,
        tokens=smollm2.template_tokens,
    )
    assert text == expected


def test_smollm2_system_default_and_string(smollm2):
    text = render_chat(smollm2.chat_template, "Hi", add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_dialogue_template():
    text = render_chat(DIALOGUE_TEMPLATE, [USER, ASSISTANT, USER], add_generation_prompt=True)
    turn = "\n\nHuman: What is 2 + 2?"
    assert text == f"{turn}\n\nAssistant: 4.{turn}\n\nAssistant:"


def test_time_is_now():
    text = render_chat("{{ strftime_now('%Y-%m') }}", "x", add_generation_prompt=False)
    assert text == datetime.now().strftime("%Y-%m")


CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
GENERATE = "{% if add_generation_prompt %}<assistant>{% endif %}"


def test_split_stops_before_eos():
    head, tail = split_chat(CHATML + GENERATE, [SYSTEM, USER], "4.", tokens={"eos_token": "<end>"})
    assert head == "<system>Be brief.<end>\n<user>What is 2 + 2?<end>\n<assistant>"
    assert tail == "4."


def test_split_of_several_turns_parts_the_assistants_from_the_others():
    turns = [ASSISTANT, USER, ASSISTANT]
    head, first, between, last = split_chat(
        CHATML + GENERATE, [USER], turns, tokens={"eos_token": "<end>"}
    )
    assert head == "<user>What is 2 + 2?<end>\n<assistant>"
    assert (first, last) == ("4.<end>", "4.")
    assert between == "\n<user>What is 2 + 2?<end>\n<assistant>"


def test_split_without_eos_in_the_template():
    head, tail = split_chat(
        DIALOGUE_TEMPLATE, "Hi", "Hello <end> you", tokens={"eos_token": "<end>"}
    )
    assert (head, tail) == ("\n\nHuman: Hi\n\nAssistant:", " Hello <end> you")


def test_split_refuses_a_template_that_rewrites_the_prompt():
    template = "{{ messages | length }}" + CHATML + GENERATE
    with pytest.raises(InputError, match="only appends"):
        split_chat(template, "Hi", "Hello", tokens={"eos_token": "<end>"})


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, "Hi", "the tokenizer has none"),
        ("{% for", "Hi", "chat template, line 1"),
        ("{{ raise_exception('roles must alternate') }}", [USER, USER], "roles must alternate"),
        ("{{ messages[3].content.x }}", "Hi", "does not take a conversation of roles user"),
        ("{{ 1 + 'a' }}", "Hi", "unsupported operand"),
        ("{{ messages.__class__.__mro__ }}", "Hi", "unsafe"),
        ("{{ messages.append(1) }}", "Hi", "unsafe|not safely"),
        ("x", [{"role": "human", "content": "Hi"}], "messages[0].role: 'human'; expected one of"),
        ("x", [{"content": "Hi"}], "messages[0].role: None"),
        ("x", [USER, {"role": "user", "content": 3}], "messages[1].content: expected a string"),
        ("x", [], "empty conversation"),
    ],
)
def test_errors(template, messages, message):
    pattern = message if "|" in message else re.escape(message)
    with pytest.raises(InputError, match=pattern):
        render_chat(template, messages, add_generation_prompt=False)


def test_templates_see_the_special_tokens_that_there_are():
    template = (
        "{% for t in [bos_token, pad_token, unk_token, mine_token] %}"
        "{{ t if t is defined else '-' }}{% endfor %}{{ 'no bos' if bos_token is not defined }}"
    )
    render = lambda tokens: render_chat(template, "x", add_generation_prompt=False, tokens=tokens)
    tokens = {"bos_token": "<s>", "pad_token": "<p>", "unk_token": "<u>", "mine_token": "<m>"}
    assert render(tokens) == "<s><p><u><m>"
    assert render({"unk_token": "<u>"}) == "--<u>-no bos"


def test_a_tokenizer_has_its_special_tokens_for_templates(spm):
    assert spm.template_tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    bare = Tokenizer(spm.backend, eos_token="</s>", special={"sep_token": "<s>"})
    assert bare.template_tokens == {"eos_token": "</s>", "sep_token": "<s>"}


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ range(10**9) | list }}",
        "{{ 'x'.encode('ascii').decode('utf-16') }}",
        "{{ '%d' % 'x' }}",
        "{{ 10.0 ** 400 }}",
        "{{ messages[0].content.index('zzz') }}",
        "{{ {}['a']['b'] }}",
        "{{ [].pop() }}",
        "{{ none.x.y }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a, b in [1] %}{% endfor %}",
        "{{ strftime_now('\\ud800') }}",
        "{{ ''.join(1) }}",
        "{{ x.y.z }}",
        "{% include 'other' %}",
        "{{ '{:d}'.format('x') }}",
        "{{ 'x' | nofilter }}",
        "{{ messages | map('nofilter') | list }}",
    ],
)
def test_any_failure_of_a_template_is_one_line(template):
    with pytest.raises(InputError) as error:
        render_chat(template, "x", add_generation_prompt=False)
    assert str(error.value).startswith("chat template") and "\n" not in str(error.value)
