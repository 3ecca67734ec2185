"""PRM800K, Math-Shepherd and ProcessBench as their publishers have them: steps and labels."""

from __future__ import annotations

import json

import pytest

from irl_jax.data.judged import read_steps
from irl_jax.data.kinds import guess
from irl_jax.types import InputError


def offered(*ratings, chosen=0, human=None):
    return {
        "completions": [
            {"text": f"offer {k} of rating {r}", "rating": r, "flagged": None}
            for k, r in enumerate(ratings)
        ],
        "human_completion": human,
        "chosen_completion": chosen,
    }


def prm800k(*steps):
    return {
        "labeler": "x", "timestamp": "2023", "generation": 9, "is_quality_control_question": False,
        "question": {"problem": "What is 1 + 1?", "ground_truth_answer": "2"},
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": "found_error"},
    }  # fmt: skip


def shepherd(*signs):
    step = lambda i, mark: f"Step {i + 1}: 1+{i} = {1 + i}. {mark}\n"
    text = "".join(step(i, "ки") for i in range(len(signs)))
    label = "".join(step(i, sign) for i, sign in enumerate(signs))
    return {"input": f"How many? {text}", "label": f"How many? {label}", "task": "GSM8K"}


def processbench(first, count=4):
    return {
        "id": "gsm8k-0", "generator": "m", "problem": "How many?",
        "steps": [f"step {i}" for i in range(count)], "final_answer_correct": first == -1,
        "label": first,
    }  # fmt: skip


def read(tmp_path, *rows):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert guess(path).name == "steps"
    return list(read_steps(path, step_separator="|"))


def test_prm800k_is_the_chosen_trajectory(tmp_path):
    rows = [
        prm800k(offered(1), offered(-1, 0, chosen=1), offered(-1, 1, chosen=None)),
        prm800k(offered(None), offered(-1, chosen=None, human="mine"), offered(1)),
        prm800k(offered(1), offered(-1, chosen=None, human={"text": "mine", "rating": None})),
    ] + [prm800k(offered(k % 3 - 1)) for k in range(17)]
    records = read(tmp_path, *rows)
    assert [r.labels for r in records[:3]] == [[1, 1, 0], [None, 1, 1], [1, 1]]
    assert records[0].completion == "offer 0 of rating 1|offer 1 of rating 0|offer 0 of rating -1"
    assert records[1].completion == "offer 0 of rating None|mine|offer 0 of rating 1"
    assert records[2].completion == "offer 0 of rating 1|mine"
    assert [r.labels for r in records[3:6]] == [[0], [1], [1]]
    assert {r.prompt for r in records} == {"What is 1 + 1?"} and len(records) == 20


def test_math_shepherd_is_cut_at_its_marks(tmp_path):
    rows = [shepherd(*("+-"[(i + k) % 2] for k in range(1 + i % 3))) for i in range(20)]
    records = read(tmp_path, *rows)
    assert [r.labels for r in records[:3]] == [[1], [0, 1], [1, 0, 1]]
    assert records[2].completion == "Step 1: 1+0 = 1.|Step 2: 1+1 = 2.|Step 3: 1+2 = 3."
    assert {r.prompt for r in records} == {"How many?"} and len(records) == 20


def test_processbench_is_judged_up_to_its_first_error(tmp_path):
    records = read(tmp_path, *(processbench(i % 5 - 1) for i in range(20)))
    assert [r.labels for r in records[:5]] == [
        [1, 1, 1, 1], [0, None, None, None], [1, 0, None, None], [1, 1, 0, None], [1, 1, 1, 0],
    ]  # fmt: skip
    assert records[0].completion == "step 0|step 1|step 2|step 3"


BAD = {
    "question": (prm800k(offered(1)) | {"question": "What?"}, "no `question.problem`"),
    "no steps": (prm800k() | {"label": {}}, "no `label.steps`"),
    "not chosen": (prm800k(offered(1, chosen=None), offered(1)), r"steps\[0\]` has no chosen step"),
    "chosen": (prm800k(offered(1, chosen=1)), r"`label.steps\[0\].chosen_completion` is 1"),
    "rating": (prm800k(offered(2)), r"`label.steps\[0\]`: rating 2"),
    "no mark": (shepherd("+") | {"input": "How many? Step 1: 1"}, "`input` has no ки after each"),
    "after": (shepherd("+") | {"input": shepherd("+")["input"] + "so"}, "`input` has no ки after"),
    "placeholder": (shepherd("+", "ки +"), "`label` is not `input` with .* place of ки 2"),
    "other text": (
        shepherd("+", "-") | {"label": shepherd("+", "-")["label"].replace("1+1", "1+2")},
        "place of ки 2",
    ),
    "label": (processbench(4), "`label` is 4 of 4 steps"),
    "true": (processbench(True), "`label` is true of 4 steps"),
}


@pytest.mark.parametrize("name", BAD)
def test_another_version_is_told(name, tmp_path):
    row, says = BAD[name]
    with pytest.raises(InputError, match=r"x\.jsonl:1: .*" + says + r".*; expected a line of") as e:
        read(tmp_path, row)
    assert "\n" not in str(e.value)
