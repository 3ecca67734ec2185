"""Files that are no JSON Lines, and lines that no program can go on with: one line each."""

from __future__ import annotations

import bz2
import gzip
import json
import re

import pytest

from irl_jax.data.evaluation import read_evaluation
from irl_jax.data.jsonl import read_demonstrations, read_preferences, read_prompts
from irl_jax.data.lines import read_jsonl
from irl_jax.types import InputError

ROW = {"prompt": "p", "chosen": "c", "rejected": "r"}
LINE = json.dumps(ROW).encode() + b"\n"
PRETTY = json.dumps(ROW, indent=2).encode()

FORMS = {
    "parquet": (b"PAR1\x15\x04\x15" + bytes(40) + b"PAR1", "Parquet; convert it, as with pandas"),
    "arrow": (b"ARROW1\0\0" + bytes(40), "this is Arrow; convert it"),
    "zip": (b"PK\x03\x04" + bytes(40), "this is a zip archive; unpack it"),
    "bzip2": (bz2.compress(LINE), "this is bzip2; unpack it, or compress it with gzip"),
    "zstandard": (b"\x28\xb5\x2f\xfd" + bytes(40), "this is zstandard; unpack it"),
    "array": (json.dumps([ROW, ROW]).encode(), "one JSON array; convert it, as with jq -c '.[]'"),
    "array, pretty": (json.dumps([ROW], indent=2).encode(), "one JSON array; convert it"),
    "array, blank lines": (b"\n\n [\n" + PRETTY + b"]", "one JSON array; convert it"),
    "pretty": (PRETTY, "JSON over several lines; convert it, as with jq -c ."),
    "pretty, several": (PRETTY + b"\n" + PRETTY, "JSON over several lines; convert it"),
    "pretty, BOM": (b"\xef\xbb\xbf" + PRETTY, "JSON over several lines; convert it"),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_another_form_is_named(form, zipped, tmp_path):
    data, says = FORMS[form]
    path = tmp_path / ("x.jsonl.gz" if zipped else "x.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)
    start = re.escape(f"{path}: expected JSON Lines, an object a line, but this is ")
    with pytest.raises(InputError, match=start + ".*" + re.escape(says.removeprefix("this is "))):
        list(read_jsonl(path))


@pytest.mark.parametrize("start", [b'{"prompt": "p",\n', b"{\n" + LINE, b"prompt,chosen\na,b\n"])
def test_a_broken_first_line_is_not_taken_for_another_form(start, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(start + LINE)
    with pytest.raises(InputError, match=r"x\.jsonl:1: broken JSON"):
        list(read_jsonl(path))


def test_gzip_is_known_by_its_content(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(gzip.compress(LINE * 3))
    assert list(read_jsonl(path)) == [(i, ROW) for i in (1, 2, 3)]
    path.write_bytes(gzip.compress(LINE * 1000)[:-20])
    with pytest.raises(InputError, match=r"x\.jsonl:\d+: cannot be read"):
        list(read_jsonl(path))


HALF = "\\ud83d"
HOSTILE = {
    "digits": ('{"n": ' + "9" * 5000 + "}", "a number of too many digits; shorten it"),
    "digits of a weight": (
        '{"prompt": "p", "chosen": "c", "rejected": "r", "weight": ' + "9" * 5000 + "}",
        "a number of too many digits",
    ),
    "brackets": ("[" * 100_000, "JSON nested too deep"),
    "closed brackets": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "JSON nested too deep"),
    "braces": ('{"a":' * 100_000, "JSON nested too deep"),
    "half a pair": (f'{{"id": "{HALF}"}}', "`id` holds half a surrogate pair at character 0"),
    "half a pair, nested": (
        f'{{"a": [1, {{"b": "x{HALF}y"}}]}}',
        "`a[1].b` holds half a surrogate pair at character 1",
    ),
    "half a pair, other half": ('{"a": "\\uDC4D\\uD83D"}', "`a` holds half a surrogate pair"),
    "half a pair, a name": (f'{{"a": {{"{HALF}": 1}}}}', "`a` holds half a surrogate pair"),
    "half a pair, a column": (f'{{"{HALF}": 1}}', "`\\ud83d` holds half a surrogate pair"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_is_named(name, tmp_path):
    text, says = HOSTILE[name]
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINE + text.encode() + b"\n")
    with pytest.raises(InputError, match=re.escape(f"{path}:2: {says}")) as error:
        list(read_jsonl(path))
    str(error.value).encode()


def test_whole_pairs_and_escaped_backslashes_are_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "\\ud83d\\udc4d \\\\ud83d", "b": "\\\\\\ud83d\\udc4d"}\n')
    assert list(read_jsonl(path)) == [(1, {"a": "👍 \\ud83d", "b": "\\👍"})]


NUMBERS = {
    "infinite in f32": ({"weight": 1e39}, "`weight` is 1e+39; expected at most 3.4e+38, as in f32"),
    "a long integer": ({"weight": 10**400}, "`weight` is 10000000000000000000...0000000000; exp"),
    "infinite margin": ({"margin": -1e39}, "`margin` is -1e+39; expected at most 3.4e+38"),
    "scores": ({"score_chosen": 3e38, "score_rejected": -3e38}, "`score_chosen - score_rejected`"),
    "one score": ({"score_chosen": 1e39, "score_rejected": 0}, "`score_chosen` is 1e+39; expected"),
    "too small": ({"weight": 1e-39}, "`weight` is 1e-39; expected 0, or 1.2e-38 or more, as in"),
    "reversed": (
        {"score_chosen": 1, "score_rejected": 2},
        "`score_chosen` 1 is below `score_rejected` 2; swap the sides, remove the scores, or set",
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_computed_with_is_named(name, tmp_path):
    fields, says = NUMBERS[name]
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINE + json.dumps(ROW | fields).encode())
    with pytest.raises(InputError, match=re.escape(f"{path}:2: {says}")):
        list(read_preferences(path))


def test_weights_that_add_up_beyond_f32_are_named_by_their_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({**ROW, "weight": 1e38}) + "\n" for _ in range(5)))
    with pytest.raises(InputError, match=r"x\.jsonl:4: `weight, added up to this line,` is 4e\+38"):
        list(read_preferences(path))


def test_sides_are_swapped_by_their_scores_if_told(tmp_path):
    scores = {"score_chosen": 1, "score_rejected": 2.5}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({**ROW, **scores}) + "\n" + json.dumps(ROW) + "\n")
    swapped, kept = read_preferences(path, scores="swap")
    assert (swapped.chosen, swapped.rejected, swapped.margin) == ("r", "c", 1.5)
    assert (kept.chosen, kept.margin) == ("c", 0.0)
    first, _ = read_evaluation(path, scores="swap")
    assert (first.responses, first.chosen) == (["r", "c"], 1)
    with pytest.raises(InputError, match=r"x\.jsonl:1: `score_chosen` 1 is below"):
        list(read_evaluation(path))


def test_a_message_as_a_side_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    message = {"role": "assistant", "content": "c"}
    says = r"is a message; expected a string or a list of messages; put it into a list, \[\{\.\.\."
    for read, row in (
        (read_preferences, {**ROW, "chosen": message}),
        (read_evaluation, {**ROW, "rejected": message}),
        (read_demonstrations, {"prompt": "p", "completion": message}),
        (read_prompts, {"prompt": message}),
    ):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(InputError, match=rf"x\.jsonl:1: `\w+` {says}"):
            list(read(path))


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "id": "HALF"},
        {**ROW, "subset": "HALF"},
        {"prompt": "HALF", "responses": ["a", "b"], "scores": [1, 2]},
    ],
)
def test_half_a_pair_in_an_evaluation(row, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row).replace("HALF", HALF) + "\n")
    with pytest.raises(InputError, match=r"x\.jsonl:1: `\w+` holds half a surrogate pair"):
        list(read_evaluation(path))
