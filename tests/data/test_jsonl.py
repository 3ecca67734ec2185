"""JSON Lines readers: forms, errors with file and line, HH-RLHF."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from irl_jax.data.chat import DIALOGUE_TEMPLATE, split_chat
from irl_jax.data.jsonl import (
    DemonstrationRecord,
    PromptRecord,
    read_demonstrations,
    read_preferences,
    read_prompts,
)
from irl_jax.data.lines import read_jsonl
from irl_jax.types import InputError

HH_RLHF = Path(__file__).parents[3] / "shared/data/hh_rlhf/harmless-base-test.jsonl.gz"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


SYSTEM = {"role": "system", "content": "s"}
P, C, R = [user("p")], [assistant("c")], [assistant("r")]

FORMS = {
    "plain": ({"prompt": "p", "chosen": "c", "rejected": "r"}, ("p", "c", "r")),
    "messages": ({"prompt": P, "chosen": C, "rejected": R}, (P, C, R)),
    "messages, sides as text": ({"prompt": P, "chosen": "c", "rejected": "r"}, (P, C, R)),
    "prompt as text": ({"prompt": "p", "chosen": C, "rejected": R}, (P, C, R)),
    "prompt repeated": ({"prompt": P, "chosen": P + C, "rejected": P + R}, (P, C, R)),
    "text prompt repeated": ({"prompt": "p", "chosen": P + C, "rejected": P + R}, (P, C, R)),
    "implicit": ({"chosen": P + C, "rejected": P + R}, (P, C, R)),
    "implicit, turns": (
        {"chosen": [SYSTEM, *P, *C, *P, *C], "rejected": [SYSTEM, *P, *C, *P, *R]},
        ([SYSTEM, *P, *C, *P], C, R),
    ),
    "implicit, parting at a user's turn": (
        {"chosen": P + C + [user("q")] + C, "rejected": P + C + [user("z")] + R},
        (P, [*C, user("q"), *C], [*C, user("z"), *R]),
    ),
    "implicit, one side goes on": ({"chosen": P + C, "rejected": P + C + P + R}, (P, C, C + P + R)),
    "dialogue": (
        {
            "chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q \n\nAssistant: c\n\nd ",
            "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q \n\nAssistant: r",
        },
        ([user("p"), assistant("a"), user("q")], [assistant("c\n\nd")], R),
    ),
    "dialogue, empty answer": (
        {"chosen": "\n\nHuman: p\n\nAssistant: ", "rejected": "\n\nHuman: p\n\nAssistant: r"},
        (P, [assistant("")], R),
    ),
    "further keys": (
        {"prompt": [{**P[0], "name": None, "turn": 1}], "chosen": C, "rejected": R, "id": 3},
        (P, C, R),
    ),
    "surrogate pair": (
        {"prompt": "👍", "chosen": "é", "rejected": ""},
        ("👍", "é", ""),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_preference(form, tmp_path):
    row, expected = FORMS[form]
    file = write(tmp_path / "a.jsonl", row)
    (record,) = read_preferences(file)
    assert (record.prompt, record.chosen, record.rejected) == expected
    assert (record.margin, record.weight, record.source) == (0.0, 1.0, f"{file}:1")


PAIR = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("fields", "margin", "weight"),
    [
        ({"margin": 2}, 2.0, 1.0),
        ({"margin": -0.5, "weight": 0}, -0.5, 0.0),
        ({"score_chosen": 8.5, "score_rejected": 6}, 2.5, 1.0),
        ({"score_chosen": 8.5, "score_rejected": 6, "margin": 1, "weight": 0.25}, 1.0, 0.25),
    ],
)
def test_numbers_of_a_preference(fields, margin, weight, tmp_path):
    (record,) = read_preferences(write(tmp_path / "a.jsonl", {**PAIR, **fields}))
    assert (record.margin, record.weight) == (margin, weight)


ERRORS = {
    "missing field": (
        {"prompt": "p", "chosen": "c"},
        "no field `rejected` (fields: prompt, chosen)",
    ),
    "no fields": ({}, "no field `chosen` (fields: none)"),
    "broken": ('{"prompt": "p",', "broken JSON, Expecting property name"),
    "not an object": ("[1, 2]", "expected a JSON object, got a list"),
    "a string": ('"abc"', "expected a JSON object, got a string"),
    "number as text": ({**PAIR, "chosen": 3}, "`chosen` is 3; expected a string or a list"),
    "null as text": ({**PAIR, "prompt": None}, "`prompt` is null; expected a string or a list"),
    "object as text": ({**PAIR, "prompt": {}}, "`prompt` is an object"),
    "empty list": ({**PAIR, "prompt": []}, "`prompt` is an empty list"),
    "message no object": ({**PAIR, "prompt": ["p"]}, "`prompt[0]` is a string; expected an object"),
    "no role": ({**PAIR, "prompt": [{"content": "p"}]}, "`prompt[0]`: no field `role`"),
    "role": (
        {**PAIR, "prompt": [{"role": "human", "content": "p"}]},
        "`prompt[0].role` is 'human'; expected one of system, developer, user, assistant, tool",
    ),
    "role no string": (
        {**PAIR, "prompt": [{"role": [], "content": "p"}]},
        "`prompt[0].role` is []",
    ),
    "content": ({**PAIR, "prompt": [{"role": "user", "content": []}]}, "`prompt[0].content` is"),
    "half a pair": (
        '{"prompt": "a\\ud83d", "chosen": "c", "rejected": "r"}',
        "half a surrogate pair at character 1",
    ),
    "equal": ({**PAIR, "rejected": "c"}, "`chosen` equals `rejected`; remove the line"),
    "equal messages": ({"chosen": P + C, "rejected": P + C}, "`chosen` equals `rejected`"),
    "equal dialogues": (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: b"},
        "`chosen` equals `rejected`",
    ),
    "different prompts": (
        {"chosen": P + C, "rejected": [user("q"), *R]},
        "the prompt ends with no",
    ),
    "prompt by the assistant": (
        {"prompt": C, "chosen": C, "rejected": R},
        "ends with an assistant",
    ),
    "completion by the user": ({"prompt": P, "chosen": P, "rejected": R}, "got no message"),
    "completion by a user": (
        {"prompt": P, "chosen": [user("x")], "rejected": R},
        "`chosen` holds a user message first, and the prompt is given beside it",
    ),
    "no dialogue": ({"chosen": "c", "rejected": "r"}, "add the field `prompt`"),
    "dialogue of one": (
        {"chosen": "\n\nHuman: c", "rejected": "\n\nHuman: r"},
        "no `prompt`, and `chosen` is no",
    ),
    "margin": ({**PAIR, "margin": "1"}, "`margin` is '1'; expected a finite number"),
    "margin true": ({**PAIR, "margin": True}, "`margin` is True; expected a finite number"),
    "margin nan": ('{"prompt":"p","chosen":"c","rejected":"r","margin":NaN}', "`margin` is nan"),
    "one score": ({**PAIR, "score_chosen": 1}, "no field `score_rejected`"),
    "weight": ({**PAIR, "weight": -1}, "`weight` is -1.0; expected 0 or more"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_errors_name_file_and_line(error, tmp_path):
    row, message = ERRORS[error]
    file = write(tmp_path / "a.jsonl", PAIR, "", row, PAIR)
    records = read_preferences(file)
    next(records)
    with pytest.raises(InputError, match=re.escape(f"{file}:3: ") + ".*" + re.escape(message)) as e:
        next(records)
    assert "\n" not in str(e.value)


def test_ties_are_dropped_when_asked(tmp_path):
    file = write(tmp_path / "a.jsonl", PAIR, {**PAIR, "rejected": "c"}, PAIR)
    assert [record.source[-1] for record in read_preferences(file, ties="drop")] == ["1", "3"]


def test_files_that_cannot_be_read(tmp_path):
    def fails(path, message):
        with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + message):
            list(read_jsonl(path))

    fails(tmp_path / "none.jsonl", "no such file; check the path")
    fails(tmp_path, "cannot be read")
    fails(write(tmp_path / "empty.jsonl"), "empty file")
    fails(write(tmp_path / "blank.jsonl", "", "  "), "empty file")
    (tmp_path / "latin.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xe9"}\n')
    fails(tmp_path / "latin.jsonl", ":2: not UTF-8")
    fails(write(tmp_path / "plain.jsonl.gz", {"a": 1}), "cannot be read.*gzip")
    data = gzip.compress(b'{"a": 1}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(data[: len(data) // 2])
    fails(tmp_path / "cut.jsonl.gz", "cannot be read")


def test_reading_twice_gives_the_same_plain_or_gzipped(tmp_path):
    rows = [{**PAIR, "prompt": f"p{i}"} for i in range(5)]
    plain = write(tmp_path / "a.jsonl", *rows)
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert list(read_jsonl(plain)) == list(read_jsonl(plain)) == list(read_jsonl(zipped))
    assert list(read_jsonl(plain)) == list(enumerate(rows, start=1))


def test_reading_streams(tmp_path):
    file = write(tmp_path / "a.jsonl", {"a": 1}, "broken")
    assert next(read_jsonl(file)) == (1, {"a": 1})


def test_prompts(tmp_path):
    file = write(tmp_path / "a.jsonl", {"prompt": "p", "answer": 4}, {"prompt": P})
    assert list(read_prompts(file)) == [
        PromptRecord("p", {"answer": 4}, f"{file}:1"),
        PromptRecord(P, {}, f"{file}:2"),
    ]
    file = write(tmp_path / "b.jsonl", {"question": "q", "answer": "a"})
    assert [r.prompt for r in read_prompts(file, prompt_field="question")] == ["q"]
    with pytest.raises(InputError, match=r"b\.jsonl:1: no field `prompt`"):
        list(read_prompts(file))
    with pytest.raises(InputError, match="the prompt ends with an assistant message"):
        list(read_prompts(write(tmp_path / "c.jsonl", {"prompt": P + C})))


def test_demonstrations(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "p", "completion": "c"},
        {"prompt": P, "completion": C},
        {"prompt": P, "completion": "c"},
        {"messages": [SYSTEM, *P, *C]},
    )
    assert list(read_demonstrations(file)) == [
        DemonstrationRecord("p", "c", f"{file}:1"),
        DemonstrationRecord(P, C, f"{file}:2"),
        DemonstrationRecord(P, C, f"{file}:3"),
        DemonstrationRecord([SYSTEM, *P], C, f"{file}:4"),
    ]
    file = write(tmp_path / "b.jsonl", {"question": "q", "answer": "a"})
    fields = {"prompt_field": "question", "completion_field": "answer"}
    assert [r.completion for r in read_demonstrations(file, **fields)] == ["a"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": P}, "the prompt ends with no message"),
        (
            {"messages": P + C + P},
            "`messages` ends with a user message; expected",
        ),
        ({"messages": P + P}, "begin with an assistant message after a shared prompt, got user"),
        ({"messages": [SYSTEM, *P, *P]}, "begin with an assistant message"),
        ({"messages": "p"}, "`messages` is a string"),
        ({"prompt": "p"}, "no field `completion`"),
    ],
)
def test_demonstration_errors(row, message, tmp_path):
    with pytest.raises(InputError, match=f"a.jsonl:1: .*{message}"):
        list(read_demonstrations(write(tmp_path / "a.jsonl", row)))


@pytest.fixture(scope="module")
def hh_rlhf():
    if not HH_RLHF.exists():
        pytest.skip(
            f"{HH_RLHF} is absent: download harmless-base/test.jsonl.gz from "
            "https://github.com/anthropics/hh-rlhf"
        )
    return list(read_preferences(HH_RLHF))


def test_hh_rlhf_pairs(hh_rlhf):
    assert len(hh_rlhf) == 2312
    assert hh_rlhf == list(read_preferences(HH_RLHF))
    assert all(record.prompt[-1]["role"] == "user" for record in hh_rlhf)
    several = [r for r in hh_rlhf if len(r.chosen) > 1 or len(r.rejected) > 1]
    assert len(several) == 5  # pairs that part before the last turn


def test_hh_rlhf_prompts_and_completions_make_up_the_dialogues(hh_rlhf):
    squeeze = lambda text: re.sub(r"\s+", " ", text).strip()
    for record, (_, row) in zip(hh_rlhf, read_jsonl(HH_RLHF), strict=True):
        for side in ("chosen", "rejected"):
            texts = split_chat(DIALOGUE_TEMPLATE, record.prompt, getattr(record, side))
            assert squeeze("".join(texts)) == squeeze(row[side])
