"""Records to judge a reward by: forms, pairs, errors with file and line."""

from __future__ import annotations

import json

import pytest

from irl_jax.data.evaluation import read_evaluation
from irl_jax.types import InputError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


P, C, R = [user("p")], [assistant("c")], [assistant("r")]
FORMS = {
    "RewardBench": ({"prompt": "p", "chosen": "c", "rejected": "r"}, "p", ["c", "r"], 1),
    "RewardBench 2": (
        {"prompt": "p", "chosen": ["c"], "rejected": ["r", "s", "t"], "num_correct": 1},
        "p",
        ["c", "r", "s", "t"],
        1,
    ),
    "several right": (
        {"prompt": "p", "chosen": ["c", "d"], "rejected": ["r"]},
        "p",
        ["c", "d", "r"],
        2,
    ),
    "one chosen as text": (
        {"prompt": "p", "chosen": "c", "rejected": ["r", "s"]},
        "p",
        ["c", "r", "s"],
        1,
    ),
    "messages": ({"prompt": P, "chosen": C, "rejected": R}, P, [C, R], 1),
    "messages, several": (
        {"prompt": P, "chosen": [C], "rejected": [R, [assistant("s")]]},
        P,
        [C, R, [assistant("s")]],
        1,
    ),
    "one answer of several turns": (
        {"prompt": P, "chosen": [[*C, user("q"), *C]], "rejected": [R, [*C, user("q"), *R]]},
        P,
        [[*C, user("q"), *C], R, [*C, user("q"), *R]],
        1,
    ),
    "messages, sides as text": ({"prompt": P, "chosen": ["c"], "rejected": ["r"]}, P, [C, R], 1),
    "dialogue": (
        {
            "chosen": "\n\nHuman: p\n\nAssistant: c",
            "rejected": "\n\nHuman: p\n\nAssistant: r",
        },
        P,
        [C, R],
        1,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    row, prompt, responses, chosen = FORMS[form]
    (record,) = read_evaluation(write(tmp_path / "x.jsonl", row))
    assert (record.prompt, record.responses, record.chosen) == (prompt, responses, chosen)
    assert record.scores is None
    assert (record.subset, record.id, record.source) == ("all", "1", f"{tmp_path}/x.jsonl:1")


def test_subset_and_id_are_kept(tmp_path):
    row = {**FORMS["RewardBench"][0], "subset": "hep-go", "id": 7}
    (record,) = read_evaluation(write(tmp_path / "x.jsonl", row))
    assert (record.subset, record.id) == ("hep-go", "7")


def test_scores_order_the_responses(tmp_path):
    row = {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 1.0]}
    (record,) = read_evaluation(write(tmp_path / "x.jsonl", row))
    assert (record.responses, record.scores) == (["a", "b", "c"], [1.0, 3.0, 1.0])
    assert record.pairs == [(1, 0), (1, 2)]
    row = {"prompt": P, "responses": ["a", "b"], "scores": [0, 0]}
    (record,) = read_evaluation(write(tmp_path / "x.jsonl", row))
    assert record.responses == [[assistant("a")], [assistant("b")]]
    assert record.pairs == []


def test_every_chosen_is_paired_with_every_rejected(tmp_path):
    row = {"prompt": "p", "chosen": ["c", "d"], "rejected": ["r", "s"]}
    (record,) = read_evaluation(write(tmp_path / "x.jsonl", row))
    assert record.pairs == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_ties_are_dropped_if_told(tmp_path):
    tie = {"prompt": "p", "chosen": "c", "rejected": ["r", "c"]}
    path = write(tmp_path / "x.jsonl", FORMS["RewardBench"][0], tie)
    with pytest.raises(InputError, match=r"x\.jsonl:2: `chosen` equals `rejected`"):
        list(read_evaluation(path))
    assert len(list(read_evaluation(path, ties="drop"))) == 1


PAIR = FORMS["RewardBench"][0]
WRONG = {
    "no chosen": ({"prompt": "p", "rejected": "r"}, r"no field `chosen` \(fields: "),
    "empty list": ({**PAIR, "rejected": []}, "`rejected` is an empty list; expected a response"),
    "number": ({**PAIR, "rejected": ["r", 3]}, "`rejected` is 3; expected a string or a list"),
    "subset": ({**PAIR, "subset": 3}, "`subset` is 3; expected a name"),
    "id": ({**PAIR, "id": [1]}, r"`id` is \[1\]; expected a string or a whole number"),
    "prompts": (
        {
            "prompt": "p",
            "chosen": [[*P, *C]],
            "rejected": [R, [user("t"), *P, *R]],
        },
        "`chosen` and `rejected` answer different prompts",
    ),
    "lists without a prompt": (
        {"chosen": ["c"], "rejected": ["r"]},
        "no `prompt`, and `chosen` is no",
    ),
    "one response": (
        {"prompt": "p", "responses": ["a"], "scores": [1]},
        "`responses`: expected a list of 2 or more",
    ),
    "no scores": ({"prompt": "p", "responses": ["a", "b"]}, "no field `scores`"),
    "too few scores": (
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 2]},
        "3 `responses` and 2 `scores`; give each one",
    ),
    "score": (
        {"prompt": "p", "responses": ["a", "b"], "scores": [1, "2"]},
        r"`scores\[1\]` is '2'; expected a finite number",
    ),
    "scores without a prompt": ({"responses": ["a", "b"], "scores": [1, 2]}, "no field `prompt`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong(name, tmp_path):
    row, says = WRONG[name]
    with pytest.raises(InputError, match=rf"^\S+/x\.jsonl:2: {says}"):
        list(read_evaluation(write(tmp_path / "x.jsonl", PAIR, row)))
