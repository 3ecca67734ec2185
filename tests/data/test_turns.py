"""The prompt is read once, in whatever form the sides hold it: pairs, demonstrations, scores."""

from __future__ import annotations

import json
import re

import pytest

from irl_jax.data.chat import DIALOGUE_TEMPLATE, split_chat
from irl_jax.data.evaluation import read_evaluation
from irl_jax.data.jsonl import read_demonstrations, read_preferences
from irl_jax.types import InputError


def say(role, content):
    return {"role": role, "content": content}


SYSTEM, Q = say("system", "s"), say("user", "q")
A, B = say("assistant", "a"), say("assistant", "b")
Q0, A0 = say("user", "q0"), say("assistant", "a0")

# prompt, what is before the answer on a side, and the whole prompt that is meant
READ = {
    "system message in the sides": ("q", [SYSTEM, Q], [SYSTEM, Q]),
    "system message in the sides, prompt of messages": ([Q], [SYSTEM, Q], [SYSTEM, Q]),
    "system message in the prompt": ([SYSTEM, Q], [Q], [SYSTEM, Q]),
    "space after the prompt": ("q ", [Q], [say("user", "q ")]),
    "space in the sides": ([Q], [say("user", " q\n")], [Q]),
    "space and a system message": ("q\n", [SYSTEM, Q], [SYSTEM, Q]),
    "last turn as the prompt": ("q", [Q0, A0, Q], [Q0, A0, Q]),
    "last turn, after a system message": ([Q], [SYSTEM, Q0, A0, Q], [SYSTEM, Q0, A0, Q]),
    "last turn in the sides": ([SYSTEM, Q0, A0, Q], [Q], [SYSTEM, Q0, A0, Q]),
    "last turns in the sides": ([SYSTEM, Q0, A0, Q], [Q0, A0, Q], [SYSTEM, Q0, A0, Q]),
    "whole": ([SYSTEM, Q], [SYSTEM, Q], [SYSTEM, Q]),
    "none": ([SYSTEM, Q], [], [SYSTEM, Q]),
}


def write(path, row):
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def every_reader(prompt, head, path):
    """(prompt, completions) as each reader finds them in a line of its form."""
    (pair,) = read_preferences(
        write(path, {"prompt": prompt, "chosen": [*head, A], "rejected": [*head, B]})
    )
    yield pair.prompt, [pair.chosen, pair.rejected]
    (shown,) = read_demonstrations(write(path, {"prompt": prompt, "completion": [*head, A]}))
    yield shown.prompt, [shown.completion]
    row = {"prompt": prompt, "chosen": [*head, A], "rejected": [[*head, B], [*head, A0]]}
    (record,) = read_evaluation(write(path, row))
    yield record.prompt, record.responses
    row = {"prompt": prompt, "responses": [[*head, A], [*head, B]], "scores": [1, 0]}
    (record,) = read_evaluation(write(path, row))
    yield record.prompt, record.responses


@pytest.mark.parametrize("name", READ)
def test_a_prompt_in_another_form_is_read_once(name, tmp_path):
    prompt, head, whole = READ[name]
    for found, completions in every_reader(prompt, head, tmp_path / "x.jsonl"):
        assert found == whole
        assert all(c in ([A], [B], [A0]) for c in completions)
        text = "".join(split_chat(DIALOGUE_TEMPLATE, found, completions[0]))
        assert text.count(" q") - text.count(" q0") == 1


DIALOGUE = "\n\nHuman: q\n\nAssistant: "
DIALOGUES = {
    "prompt as its text": "\n\nHuman: q\n\nAssistant:",
    "prompt as its question": "q",
    "prompt as a message": [Q],
    "no prompt": None,
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogues_that_repeat_the_prompt(name, tmp_path):
    row = {"chosen": f"{DIALOGUE}a", "rejected": f"{DIALOGUE}b"}
    if DIALOGUES[name] is not None:
        row["prompt"] = DIALOGUES[name]
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected) == ([Q], [A], [B])


def test_human_within_a_turn_of_theirs_is_its_text(tmp_path):
    start = "\n\nHuman: Go on:\n\nHuman: hi\n\nAssistant: "
    (pair,) = read_preferences(
        write(tmp_path / "x.jsonl", {"chosen": f"{start}a", "rejected": f"{start}b"})
    )
    assert pair.prompt == [say("user", "Go on:\n\nHuman: hi")]
    assert (pair.chosen, pair.rejected) == ([A], [B])
    assert "".join(split_chat(DIALOGUE_TEMPLATE, pair.prompt, pair.chosen)) == f"{start}a"


BOTH = "`chosen` and `rejected` begin with the text of the prompt; take it off, or, if the answer"
REFUSED = {
    "plain": ({"prompt": "Why?", "chosen": "Why? So.", "rejected": "Why? No."}, BOTH),
    "plain, spaces": ({"prompt": "Why? ", "chosen": "Why?\nSo.", "rejected": " Why? No."}, BOTH),
    "plain, no space": ({"prompt": "2+2=", "chosen": "2+2=4", "rejected": "2+2=5"}, BOTH),
    "plain sides of a message": ({"prompt": [Q], "chosen": "q: a", "rejected": "q: b"}, BOTH),
    "system message on one side": (
        {"prompt": "q", "chosen": [SYSTEM, Q, A], "rejected": [Q, B]},
        "`chosen` and `rejected` answer different prompts; give both the same system message",
    ),
    "system message on one side, no prompt": (
        {"chosen": [SYSTEM, Q, A], "rejected": [Q, B]},
        "the prompt ends with no message",
    ),
    "another question": (
        {"prompt": "q", "chosen": [Q0, A], "rejected": [Q0, B]},
        "`chosen` holds a user message first, and the prompt is given beside it; give the whole",
    ),
    "another system message": (
        {"prompt": [SYSTEM, Q], "chosen": [say("system", "t"), Q, A], "rejected": [B]},
        "`chosen` holds a system message first, and the prompt is given beside it",
    ),
    "after the assistant's turn": (
        {"prompt": "q", "chosen": [A0, Q, A], "rejected": [A0, Q, B]},
        "`chosen` holds the prompt again, after other turns, and the prompt is given beside it",
    ),
    "no answer at the end": (
        {"prompt": "q", "chosen": [A, Q0], "rejected": [B]},
        "`chosen` ends with a user message; expected the assistant's last",
    ),
    "Human: at the end": (
        {"chosen": f"{DIALOGUE}a\n\nHuman: x", "rejected": f"{DIALOGUE}b"},
        "`chosen` ends with a user message",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_prompt_with_two_readings_is_refused(name, tmp_path):
    row, says = REFUSED[name]
    file = write(tmp_path / "x.jsonl", row)
    for read in (read_preferences, read_evaluation):
        with pytest.raises(InputError, match=re.escape(f"{file}:1: {says}")) as error:
            list(read(file))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "Why?", "completion": "Why? So."}, "`completion` begins with the text of the"),
        ({"prompt": "q", "completion": [Q0, A]}, "`completion` holds a user message first"),
        ({"prompt": "q", "completion": [A0, Q, A]}, "`completion` holds the prompt again, after"),
        ({"messages": [Q, A, Q0]}, "`messages` ends with a user message; expected"),
    ],
)
def test_demonstrations_likewise(row, says, tmp_path):
    with pytest.raises(InputError, match=rf"x\.jsonl:1: {re.escape(says)}"):
        list(read_demonstrations(write(tmp_path / "x.jsonl", row)))


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ("Hi", "Hidden", "Hit"),  # no whole word of it
        ("Hi", "Hi there", "Hello"),  # one answer quotes it
        ("abc", "abc", "abd"),
        (" ", " a", " b"),
    ],
)
def test_answers_that_only_look_like_their_prompt(prompt, chosen, rejected, tmp_path):
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, chosen, rejected)


def test_an_answer_that_quotes_the_prompt_is_given_as_messages(tmp_path):
    row = {"prompt": [say("user", "Hi")]}
    row |= {name: [say("assistant", f"Hi {name}")] for name in ("chosen", "rejected")}
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen) == (row["prompt"], row["chosen"])


def test_turns_that_all_share_join_the_prompt_whatever_its_form(tmp_path):
    row = {"prompt": [SYSTEM], "chosen": [Q, A], "rejected": [Q, B]}
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected) == ([SYSTEM, Q], [A], [B])
    row = {"chosen": [Q, A0, A], "rejected": [Q, A0, B]}  # two turns of the assistant
    (pair,) = read_preferences(write(tmp_path / "x.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected) == ([Q], [A0, A], [A0, B])
