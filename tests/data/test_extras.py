"""Tools, calls of them, names, a system column: shown to the model, or refused by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from irl_jax.data.builders import HeldOut, prepare
from irl_jax.data.encode import Encoder
from irl_jax.data.evaluation import read_evaluation
from irl_jax.data.identity import Identity
from irl_jax.data.jsonl import (
    GroupRecord,
    read_demonstrations,
    read_preferences,
    read_prompts,
)
from irl_jax.data.kinds import KINDS
from irl_jax.types import InputError

SHOWS = (
    "{% if tools %}<|system|>{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN = re.sub(r"{% if (tools|m.tool_calls) %}.*?{% endif %}", "", SHOWS)
NAMES = SHOWS.replace("{{ m.content }}", "{{ m.name }}:{{ m.content }}")
TOOLS = [{"type": "function", "function": {"name": "add"}}]
CALLS = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]


def say(role, content, **more):
    return {"role": role, "content": content, **more}


Q, A, B = say("user", "q"), say("assistant", "a"), say("assistant", "b")
CALLED = [
    Q,
    say("assistant", None, tool_calls=CALLS),
    say("tool", "2", tool_call_id="1", name="add"),
]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def encoder(spm, template):
    return Encoder(spm, 500, 500, template=template)


def said(spm, template, path, **row):
    """The text of the prompt of a pair, as every reader and encoder has it."""
    found = encoder(spm, template)
    file = write(path, {"prompt": "q", "chosen": [A], "rejected": [B], **row})
    (pair,) = found.preferences(read_preferences(file))
    (record,) = read_evaluation(file)
    group = GroupRecord(record.prompt, record.responses, {}, record.source, record.tools)
    assert found.groups([group])[0].prompt == pair.prompt
    own = {k: v for k, v in row.items() if k not in ("chosen", "rejected")}
    file = write(path, {"prompt": "q", "completion": [A], **own})
    assert found.demonstrations(read_demonstrations(file))[0].prompt == pair.prompt
    assert found.prompts(read_prompts(file))[0].prompt == pair.prompt
    return spm.decode(pair.prompt, False)


def test_tools_are_shown_by_a_template_that_takes_them(spm, tmp_path):
    text = said(spm, SHOWS, tmp_path / "x.jsonl", tools=TOOLS)
    assert json.dumps(TOOLS) in text
    assert said(spm, SHOWS, tmp_path / "x.jsonl", tools=json.dumps(TOOLS)) == text
    bare = said(spm, SHOWS, tmp_path / "x.jsonl")
    for nothing in (None, [], "", " ", "[]"):
        assert said(spm, SHOWS, tmp_path / "x.jsonl", tools=nothing) == bare


def test_calls_of_tools_are_shown_by_a_template_that_takes_them(spm, tmp_path):
    text = said(spm, SHOWS, tmp_path / "x.jsonl", prompt=CALLED)
    assert json.dumps(CALLS) in text and "None" not in text
    answers = {"chosen": [say("assistant", None, tool_calls=CALLS)], "rejected": [B]}
    (pair,) = encoder(spm, SHOWS).preferences(
        read_preferences(write(tmp_path / "x.jsonl", {"prompt": "q", **answers}))
    )
    assert json.dumps(CALLS) in spm.decode(pair.chosen, False)


def test_a_system_column_is_the_first_message(spm, tmp_path):
    path = tmp_path / "x.jsonl"
    first = said(spm, PLAIN, path, prompt=[say("system", "s"), Q])
    assert first.startswith("<|system|>s</s><|user|>q")
    for row in ({"system": "s"}, {"system_prompt": "s"}, {"system": "s", "prompt": [Q]}):
        assert said(spm, PLAIN, path, **row) == first
    assert said(spm, PLAIN, path, system="s ", prompt=[say("system", "s"), Q]) == first
    assert "system" not in said(spm, PLAIN, path, system=" ", system_prompt=None)
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}
    (pair,) = read_preferences(write(path, row))
    assert (pair.prompt, pair.chosen) == ([say("system", "s"), Q], [A])


NOT_SHOWN = {
    "tools": (PLAIN, {"tools": TOOLS}, "the chat template does not show `tools`; remove the field"),
    "calls": (PLAIN, {"prompt": CALLED}, "the chat template does not show `tool_calls`"),
    "name": (SHOWS, {"prompt": [say("user", "q", name="Ann")]}, "does not show `name`"),
    "reasoning": (
        SHOWS,
        {"chosen": [say("assistant", "a", reasoning_content="since")]},
        "does not show `reasoning_content`",
    ),
    "a lone id of a call": (
        SHOWS,
        {"prompt": [Q, A, say("tool", "2", tool_call_id="1")]},
        "does not show `tool_call_id`",
    ),
    "no template": (None, {"tools": TOOLS, "chosen": "a", "rejected": "b"}, "`tools` needs a chat"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_what_a_template_does_not_show_is_refused_by_name(name, spm, tmp_path):
    template, row, says = NOT_SHOWN[name]
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "chosen": [A], "rejected": [B], **row})
    with pytest.raises(InputError, match=re.escape(f"{path}:1: ") + ".*" + re.escape(says)):
        encoder(spm, template).preferences(read_preferences(path))


def test_a_name_is_shown_by_a_template_that_takes_it(spm, tmp_path):
    prompt = [say("user", "q", name="Ann")]
    assert "Ann:q" in said(spm, NAMES, tmp_path / "x.jsonl", prompt=prompt)


UNREAD = {
    "images": ({"images": ["a.png"]}, "`images` is not read; say in the messages"),
    "documents": ({"documents": [{"text": "t"}]}, "`documents` is not read"),
    "of a message": ({"prompt": [say("user", "q", images=["a"])]}, "`prompt[0]`: `images` is not"),
    "weight": ({"chosen": [say("assistant", "a", weight=0)]}, "`chosen[0]`: a message's `weight`"),
    "system and a system message": (
        {"system": "t", "prompt": [say("system", "s"), Q]},
        "`system` differs from the system message of the prompt",
    ),
    "system": ({"system": 3}, "`system` is a int; expected a string"),
    "tools": ({"tools": {"a": 1}}, "`tools` is a dict; expected a list"),
    "tools as text": ({"tools": "add"}, "`tools` is no JSON; give a list"),
    "content": ({"prompt": [say("user", None)]}, "`prompt[0].content` is null"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_would_be_lost_is_refused_by_name(name, tmp_path):
    row, says = UNREAD[name]
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "chosen": [A], "rejected": [B], **row})
    for read in (read_preferences, read_evaluation):
        with pytest.raises(InputError, match=re.escape(f"{path}:1: ") + ".*" + re.escape(says)):
            list(read(path))


def test_other_columns_and_fields_are_left_alone(tmp_path):
    row = {"prompt": [{**Q, "id": 3, "hash": "x"}], "chosen": [{**A, "weight": 1}], "rejected": [B]}
    row |= {"source": "web", "metadata": {"a": [1]}, "images": [], "documents": None}
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected, pair.tools) == ([Q], [A], [B], None)


def test_tools_are_kept_when_prepared_and_belong_to_the_prompt(tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "tools": TOOLS} for i in range(9)]
    path = write(tmp_path / "x.jsonl", *rows)
    same = Identity(SHOWS, {})
    sides = prepare(KINDS["pairs"], path, tmp_path / "c", fraction=0.4, seed=0, identity=same)
    assert all(record.tools == TOOLS for side in sides for record in side)
    names = lambda tools: [HeldOut(0.5, s, same).name("q", tools) for s in range(20)]
    assert names(TOOLS) != names(None)
    assert replace(sides[0][0], tools=None) != sides[0][0]
