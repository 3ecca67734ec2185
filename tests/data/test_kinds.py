"""The kinds of examples: each from a file to a batch, and told by its fields."""

from __future__ import annotations

import json
from dataclasses import fields

import jax
import numpy as np
import pytest

from irl_jax.data.encode import Encoder
from irl_jax.data.kinds import KINDS, guess
from irl_jax.types import (
    Demonstration,
    Group,
    InputError,
    Preference,
    Prompt,
    Ranking,
    Rating,
    StepLabels,
)

LINES = {
    "pairs": ({"prompt": "p", "chosen": "c", "rejected": "r"}, Preference),
    "ratings": ({"prompt": "p", "completion": "c", "label": True}, Rating),
    "rankings": ({"prompt": "p", "responses": ["a", "b", "c"]}, Ranking),
    "scored": ({"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}, Group),
    "steps": ({"prompt": "p", "completions": ["a", "b"], "labels": [1, 0]}, StepLabels),
    "demonstrations": ({"prompt": "p", "completion": "c"}, Demonstration),
    "prompts": ({"prompt": "p", "answer": 4}, Prompt),
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_names():
    assert list(KINDS) == list(LINES)
    assert all(kind.name == name for name, kind in KINDS.items())
    assert all("\n" not in kind.fields for kind in KINDS.values())


@pytest.mark.parametrize("name", LINES)
def test_from_a_file_to_a_batch(name, spm, tmp_path):
    row, batch_class = LINES[name]
    file = write(tmp_path / "a.jsonl", row, row)
    kind = guess(file)
    assert kind is KINDS[name]
    records = list(kind.read(file))
    assert all(type(record) is kind.record for record in records)
    items = kind.encode(Encoder(spm, 9, 9), records)
    assert [item.source for item in items] == [f"{file}:1", f"{file}:2"]
    shape = tuple(max(axis) for axis in zip(*(item.lengths for item in items), strict=True))
    batch = kind.collate([*items, None], shape, pad_id=spm.pad_id)
    assert type(batch) is batch_class
    leaves = jax.tree.leaves(batch)
    assert all(isinstance(leaf, np.ndarray) and len(leaf) == 3 for leaf in leaves)
    if hasattr(batch, "weight"):
        assert batch.weight.tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", LINES)
def test_a_record_is_json(name, tmp_path):
    kind = KINDS[name]
    (record,) = kind.read(write(tmp_path / "a.jsonl", LINES[name][0] | {"tools": [{"name": "t"}]}))
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    assert kind.record(**json.loads(json.dumps(values))) == record


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"chosen": [], "rejected": []}, "pairs"),
        ({"prompt": 1, "chosen": 1, "rejected": 1, "messages": 1}, "pairs"),
        ({"prompt": 1, "completion": 1, "score": 1}, "ratings"),
        ({"prompt": 1, "responses": 1, "ranking": 1}, "rankings"),
        ({"messages": 1, "prompt": 1}, "demonstrations"),
        ({"prompt": 1, "responses": 1, "scores": 1, "id": 1}, "scored"),
    ],
)
def test_fields_tell_the_kind(row, name, tmp_path):
    assert guess(write(tmp_path / "a.jsonl", row)).name == name


def test_fields_of_no_kind_are_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('\n{"question": 1, "labels": []}\n')
    with pytest.raises(InputError) as error:
        guess(file)
    said = str(error.value)
    assert said.startswith(f"{file}:2: cannot tell the kind of examples by the fields question,")
    assert "\n" not in said and all(f"{name} (" in said for name in KINDS)
    with pytest.raises(InputError, match="empty file"):
        guess(write(file))


def test_every_turn_of_the_assistant_is_imitated(spm, tmp_path):
    said = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    messages = [{"role": role, "content": text} for role, text in said]
    kind = KINDS["demonstrations"]
    (record,) = kind.read(write(tmp_path / "a.jsonl", {"messages": messages}))
    assert (record.prompt, record.completion) == (messages[:2], messages[2:])
    items = kind.encode(Encoder(spm, 99, 99, template=spm.chat_template), [record])
    batch = kind.collate(items, (99,), pad_id=spm.pad_id)
    assert spm.decode(batch.tokens[0][batch.mask[0]], False) == "a</s>b</s>"


@pytest.mark.parametrize(
    ("roles", "prompt"),
    [("ua", 1), ("uaua", 1), ("sa", 1), ("saua", 1), ("aua", 2), ("suuaa", 3), ("uata", 1)],
)
def test_where_the_first_answer_is(roles, prompt, tmp_path):
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    messages = [{"role": names[r], "content": f"{i}"} for i, r in enumerate(roles)]
    (record,) = KINDS["demonstrations"].read(write(tmp_path / "a.jsonl", {"messages": messages}))
    assert (record.prompt, record.completion) == (messages[:prompt], messages[prompt:])
