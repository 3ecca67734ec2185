"""Readers of judged responses: forms, numbers, errors with file and line."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irl_jax.data.judged import (
    RankingRecord,
    RatingRecord,
    ScoredRecord,
    StepsRecord,
    read_rankings,
    read_ratings,
    read_scored,
    read_steps,
)
from irl_jax.types import InputError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


P, C, R = [user("p")], [assistant("c")], [assistant("r")]
TOOLS = [{"name": "add"}]
RATING = {"prompt": "p", "completion": "c", "label": True}
RANKING = {"prompt": "p", "responses": ["a", "b", "c"]}
SCORED = {"prompt": "p", "responses": ["a", "b"], "scores": [1, 2.5]}
STEPS = {"prompt": "p", "completions": ["a", "bc"], "labels": [True, False]}
READ = {"rating": read_ratings, "ranking": read_rankings, "scored": read_scored}
READ["steps"] = read_steps
ROWS = {"rating": RATING, "ranking": RANKING, "scored": SCORED, "steps": STEPS}

FORMS = {
    "label": (RATING, RatingRecord("p", "c", 1.0, 1.0, "")),
    "label 0": ({**RATING, "label": 0}, RatingRecord("p", "c", 0.0, 1.0, "")),
    "label 1.0": ({**RATING, "label": 1.0}, RatingRecord("p", "c", 1.0, 1.0, "")),
    "score": (
        {"prompt": P, "completion": C, "score": -2.5, "weight": 0.5},
        RatingRecord(P, C, -2.5, 0.5, ""),
    ),
    "rating, prompt repeated": (
        {"prompt": "p", "completion": [*P, *C], "label": False, "tools": TOOLS},
        RatingRecord(P, C, 0.0, 1.0, "", TOOLS),
    ),
    "rating, system": (
        {**RATING, "system": "s"},
        RatingRecord([{"role": "system", "content": "s"}, *P], C, 1.0, 1.0, ""),
    ),
    "rating, turns": (
        {"prompt": P, "completion": [*C, user("q"), *R], "label": 1},
        RatingRecord(P, [*C, user("q"), *R], 1.0, 1.0, ""),
    ),
    "ranking in order": (RANKING, RankingRecord("p", ["a", "b", "c"], 1.0, "")),
    "ranking by ranks": (
        {**RANKING, "ranking": [3, 1, 2], "weight": 2},
        RankingRecord("p", ["b", "c", "a"], 2.0, ""),
    ),
    "ranking by scores": (
        {**RANKING, "scores": [0.5, -1, 7]},
        RankingRecord("p", ["c", "a", "b"], 1.0, ""),
    ),
    "ranking of messages": (
        {"prompt": P, "responses": [C, "r"], "ranking": [2, 1]},
        RankingRecord(P, [R, C], 1.0, ""),
    ),
    "scored": (SCORED, ScoredRecord("p", ["a", "b"], [1.0, 2.5], "")),
    "scored alike": (
        {"prompt": P, "responses": ["r", "r"], "scores": [0, 0], "weight": 1},
        ScoredRecord(P, [R, R], [0.0, 0.0], ""),
    ),
    "steps": (STEPS, StepsRecord("p", "a\nbc", [1, 4], [1.0, 0.0], 1.0, "")),
    "steps, shares": (
        {**STEPS, "labels": [0.25, None], "weight": 3},
        StepsRecord("p", "a\nbc", [1, 4], [0.25, None], 3.0, ""),
    ),
    "steps of a message": (
        {**STEPS, "prompt": P},
        StepsRecord(P, [assistant("a\nbc")], [1, 4], [1.0, 0.0], 1.0, ""),
    ),
}


def kind_of(row):
    return "rating" if "completion" in row else "steps" if "labels" in row else "ranking"


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    row, expected = FORMS[form]
    read = read_scored if isinstance(expected, ScoredRecord) else READ[kind_of(row)]
    file = write(tmp_path / "a.jsonl", "", row)
    (record,) = read(file)
    assert record.source == f"{file}:2"
    assert vars(record) == vars(expected) | {"source": record.source}
    assert all(type(value) is float for value in vars(record).get("labels", []) if value)


def test_options(tmp_path):
    file = write(tmp_path / "a.jsonl", {"prompt": "p", "response": "c", "label": 1})
    assert [r.completion for r in read_ratings(file, completion_field="response")] == ["c"]
    (record,) = read_steps(write(tmp_path / "b.jsonl", STEPS), step_separator=" // ")
    assert (record.completion, record.ends) == ("a // bc", [1, 7])
    (record,) = read_steps(write(tmp_path / "b.jsonl", STEPS), step_separator="")
    assert (record.completion, record.ends) == ("abc", [1, 3])
    ties = [{**RANKING, "scores": [1, 1, 2]}, RANKING, {**RANKING, "responses": ["a", "b", "a"]}]
    file = write(tmp_path / "c.jsonl", *ties)
    assert [r.source for r in read_rankings(file, ties="drop")] == [f"{file}:2"]


def test_rankings_may_differ_in_length(tmp_path):
    file = write(tmp_path / "a.jsonl", RANKING, {"prompt": "p", "responses": ["a", "b"]})
    assert [len(r.completions) for r in read_rankings(file)] == [3, 2]


@pytest.mark.parametrize(
    ("scale", "score", "message"),
    [
        ("probability", 1.5, "`score` is 1.5; expected a number from 0 to 1"),
        ("category", 1.5, "`score` is 1.5; expected a category 0, 1, 2, ..."),
        ("category", -1, "`score` is -1; expected a category"),
        ("probability", 0.5, None),
        ("category", 7.0, None),
        ("number", -1e30, None),
    ],
)
def test_what_a_score_may_be(scale, score, message, tmp_path):
    file = write(tmp_path / "a.jsonl", {"prompt": "p", "completion": "c", "score": score})
    if message is None:
        assert [r.score for r in read_ratings(file, scale=scale)] == [score]
    else:
        with pytest.raises(InputError, match=re.escape(f"{file}:1: {message}")):
            list(read_ratings(file, scale=scale))


LARGE = 10**400
ERRORS = {
    "rating: no prompt": ({"completion": "c", "label": 1}, "no field `prompt` (fields: comp"),
    "rating: no completion": ({"prompt": "c", "label": 1}, "no field `completion`"),
    "rating: no label": (
        {"prompt": "p", "completion": "c"},
        "no field `label` or `score` (fields: prompt, completion); add one",
    ),
    "rating: names of lines": ({"a\nb": 1}, "no field `prompt` (fields: a\\nb); add or rename"),
    "rating: many names": (
        {f"field {i}": 1 for i in range(999)},
        "no field `prompt` (fields: field 0, field 1, field 2, ",
    ),
    "rating: both": ({**RATING, "score": 1}, "has `label` and `score`; remove one of them"),
    "rating: label 2": (
        {**RATING, "label": 2},
        "`label` is 2; expected true, false, 1 or 0 (for other numbers name it `score`)",
    ),
    "rating: label 0.5": ({**RATING, "label": 0.5}, "`label` is 0.5; expected true, false"),
    "rating: label text": ({**RATING, "label": "good"}, "`label` is a string; expected true"),
    "rating: label null": ({**RATING, "label": None}, "`label` is null; expected true"),
    "rating: label list": ({**RATING, "label": [1]}, "`label` is a list; expected true"),
    "rating: label large": ({**RATING, "label": LARGE}, "`label` is 10000000000000000000...0"),
    "rating: score": (
        {"prompt": "p", "completion": "c", "score": True},
        "`score` is True; expected a finite number",
    ),
    "rating: score large": (
        {"prompt": "p", "completion": "c", "score": LARGE},
        "`score` is 10000000000000000000...0000000000; expected at most 3.4e+38",
    ),
    "rating: completion": ({**RATING, "completion": 3}, "`completion` is 3; expected a string"),
    "rating: prompt repeated": (
        {**RATING, "completion": "p and more"},
        "`completion` begins with the text of the prompt; take it off",
    ),
    "rating: user": ({**RATING, "completion": P}, "expected the completions to begin with"),
    "rating: images": ({**RATING, "images": ["x"]}, "`images` is not read"),
    "rating: weight": ({**RATING, "weight": -1}, "`weight` is -1.0; expected 0 or more"),
    "rating: weights": ({**RATING, "weight": 3.4e38}, "`weight, added up to this line,` is"),
    "ranking: no responses": ({"prompt": "p"}, "no field `responses`"),
    "ranking: empty": ({**RANKING, "responses": []}, "`responses`: expected a list of 2 or more"),
    "ranking: one": ({**RANKING, "responses": ["a"]}, "`responses`: expected a list of 2"),
    "ranking: text": ({**RANKING, "responses": "ab"}, "`responses`: expected a list of 2"),
    "ranking: number": ({**RANKING, "responses": ["a", 3]}, "`responses[1]` is 3; expected a"),
    "ranking: twice": (
        {**RANKING, "responses": ["a", "b", "a"]},
        "`responses[0]` equals `responses[2]`; remove one, or read with ties='drop'",
    ),
    "ranking: tie": (
        {**RANKING, "ranking": [1, 1, 2]},
        "`ranking` is [1, 1, 2]; expected each of 1 to 3 once, the rank of each response",
    ),
    "ranking: from 0": ({**RANKING, "ranking": [0, 1, 2]}, "`ranking` is [0, 1, 2]; expected"),
    "ranking: no list": ({**RANKING, "ranking": 1}, "`ranking` is 1; expected a list"),
    "ranking: short": ({**RANKING, "ranking": [1]}, "3 `responses` and 1 `ranking`; give each"),
    "ranking: rank": ({**RANKING, "ranking": [1, "2", 3]}, "`ranking[1]` is '2'; expected a fin"),
    "ranking: scores": (
        {**RANKING, "scores": [1, 2, 1.0]},
        "`scores[0]` equals `scores[2]`; remove one",
    ),
    "ranking: two": (
        {**RANKING, "scores": [1, 2, 3], "ranking": [1, 2, 3]},
        "has `ranking` and `scores`; remove one of them",
    ),
    "scored: no scores": ({"prompt": "p", "responses": ["a", "b"]}, "no field `scores`"),
    "scored: short": ({**SCORED, "scores": [1]}, "2 `responses` and 1 `scores`; give each one"),
    "scored: other": (
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 2, 3]},
        "3 `responses`, but lines before have 2; give each prompt as many",
    ),
    "scored: null": ({**SCORED, "scores": [1, None]}, "`scores[1]` is None; expected a finite"),
    "scored: weight": ({**SCORED, "weight": 2}, "`weight` is not read beside `scores`; remove"),
    "steps: none": ({**STEPS, "completions": []}, "`completions` is an empty list; expected a"),
    "steps: text": ({**STEPS, "completions": "ab"}, "`completions` is a string; expected a list"),
    "steps: number": ({**STEPS, "completions": ["a", 3]}, "`completions[1]` is 3; expected a st"),
    "steps: blank": ({**STEPS, "completions": ["a", " "]}, "`completions[1]` is blank; expected"),
    "steps: labels": ({**STEPS, "labels": [1]}, "2 `completions` and 1 `labels`; give each one"),
    "steps: no labels": ({"prompt": "p", "completions": ["a"]}, "no field `labels`"),
    "steps: label 2": (
        {**STEPS, "labels": [1, 2]},
        "`labels[1]` is 2; expected true, false or a number from 0 to 1",
    ),
    "steps: label text": ({**STEPS, "labels": [1, "+"]}, "`labels[1]` is '+'; expected a finite"),
    "steps: unjudged": ({**STEPS, "labels": [None, None]}, "every one of `labels` is null"),
    "steps: dialogue": (
        {**STEPS, "completions": ["\n\nHuman: p", "\n\nAssistant: b"]},
        "`completions` are a conversation; expected the steps of one answer",
    ),
}
LINES = {
    "deep": ('{"prompt": ' + "[" * 100_000, "JSON nested too deep to be read; fix the line"),
    "digits": ('{"prompt": "p", "label": ' + "1" * 5000 + "}", "a number of too many digits"),
    "half": ('{"prompt": "a\\ud83d"}', "`prompt` holds half a surrogate pair at character 1"),
    "list": ("[1]", "expected a JSON object, got a list"),
    "cut": ('{"prompt": ', "broken JSON"),
}


def fails(read, file, message):
    records = read(file)
    next(records)
    with pytest.raises(InputError, match=re.escape(f"{file}:3: {message}")) as error:
        next(records)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("error", ERRORS)
def test_errors_name_file_and_line(error, tmp_path):
    row, message = ERRORS[error]
    name = error.partition(":")[0]
    first = {"weight": 3e37} | ROWS[name] if error == "rating: weights" else ROWS[name]
    fails(READ[name], write(tmp_path / "a.jsonl", first, "", row), message)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("error", LINES)
def test_lines_that_are_no_objects(name, error, tmp_path):
    line, message = LINES[error]
    fails(READ[name], write(tmp_path / "a.jsonl", ROWS[name], "", line), message)


TEXTS = st.sampled_from(["", "p", "a", " ", "\n\nHuman: p\n\nAssistant: b", "p and more"])
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": TEXTS}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | MESSAGES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=6,
)
LISTS = st.lists(TEXTS | MESSAGES | st.lists(MESSAGES, max_size=3), max_size=3)
NUMBERS = st.lists(st.none() | st.booleans() | st.sampled_from([0, 1, 2, 3, 0.5]), max_size=3)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": TEXTS | st.lists(MESSAGES, max_size=3) | VALUES,
        **{name: TEXTS | LISTS | VALUES for name in ("completion", "responses", "completions")},
        **{name: NUMBERS | VALUES for name in ("scores", "ranking", "labels")},
        **{name: VALUES for name in ("label", "score", "weight", "tools", "system", "images")},
    },
)


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(row=FIELDS)
def test_any_line_is_read_or_refused_in_one_line(row, tmp_path):
    file = write(tmp_path / "a.jsonl", row)
    for read in READ.values():
        try:
            (record,) = read(file)
        except InputError as error:
            said = str(error)
            assert said.startswith(f"{file}:1: ") and said.isprintable() and len(said) < 500
            assert ";" in said or "expected" in said  # the fix
        else:
            assert record.source == f"{file}:1"


@pytest.mark.parametrize("name", READ)
def test_the_last_line_counts(name, tmp_path):
    file = write(tmp_path / "a.jsonl", *[ROWS[name]] * 5)
    assert [r.source for r in READ[name](file)] == [f"{file}:{i}" for i in range(1, 6)]
