"""Files of expected figures: what is read from them, what is refused, the README's table."""

import pytest

from irl_jax.report.expected import (
    experiments_table,
    intervals,
    parse_expected,
    parse_tables,
    read_all,
    with_table,
    write_table,
)
from irl_jax.types import InputError

TEXT = """# Title

**Question:** Which loss
is best?

**Answer:** DPO. It has 0.65.

## Runs

| run | command | repeats | processor | intervals |
|---|---|---|---|---|
| first | `python -m experiments.a` | 8 seeds | 2 cores | 95 %, t |
| second | the same | 3 seeds | another | 95 %, t |

## Accuracy

| method | run | accuracy | p |
|---|---|---|---|
| DPO | first | 0.651 [0.639, 0.664] | 2e-5 |
| IPO | second | -1.2 [-1.30, -1.1] | – |
"""


def changed(old: str, new: str) -> str:
    """The text with the last `old` replaced."""
    before, found, after = TEXT.rpartition(old)
    assert found
    return before + new + after


def test_a_file_is_read():
    expected = parse_expected(TEXT)
    assert (expected.title, expected.question) == ("Title", "Which loss is best?")
    assert expected.answer == "DPO. It has 0.65."
    assert expected.runs.column("repeats") == ["8 seeds", "3 seeds"]
    (table,) = expected.figures
    assert table.heads == ("method", "run", "accuracy", "p")
    assert table.rows[1] == ("IPO", "second", "-1.2 [-1.30, -1.1]", "–")
    assert TEXT.splitlines()[table.line - 1] == "| method | run | accuracy | p |"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# Title", "Title", "no title"),
        ("is best?", "is best", "a question ends in ?"),
        ("**Question:**", "Question:", "one paragraph **Question:**"),
        ("**Answer:**", "**Answer**", "one paragraph **Answer:**"),
        (" repeats |", " times |", "a table with the heads run, command, repeats"),
        ("| 8 seeds ", "", "line 12: 4 cells under 5 heads"),
        ("| 8 seeds ", "| ", "line 12: an empty cell"),
        ("| DPO | first |", "| DPO |", "line 19: 3 cells under 4 heads"),
        ("0.639, 0.664", "0.664, 0.639", "line 19: .* outside its interval"),
        ("0.639, 0.664", "0.652, 0.664", "line 19: .* outside its interval"),
        ("0.639, 0.664", "0.639, 0.650", "line 19: .* outside its interval"),
        ("0.639, 0.664", "0.639; 0.664", "line 19: .* expected an interval"),
        ("0.639, 0.664]", "0.639, 0.664", "line 19: .* expected an interval"),
        ("0.651 [", "[", "line 19: .* expected an interval"),
        ("2e-5", "1.5", "line 19: p is a number from 0 to 1, got 1.5"),
        ("2e-5", "small", "line 19: p is a number from 0 to 1, got small"),
        ("-1.2 [-1.30, -1.1]", "–", "line 20: no figure"),
        ("| IPO | second |", "| IPO | third |", "line 17: no run third"),
        ("| method | run |", "| method | draw |", "line 17: which run is it"),
        ("|---|---|---|---|\n", "", "line 17: a table has heads, a rule"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(old, new, message):
    with pytest.raises(ValueError, match=message.replace("**", r"\*\*").replace("?", r"\?")):
        parse_expected(changed(old, new))


def test_a_table_of_several_runs_may_name_them_in_its_heads():
    assert parse_expected(changed("| method | run |", "| method | gold, first |")).figures
    one = changed("| second | the same | 3 seeds | another | 95 %, t |\n", "")
    assert parse_expected(one.replace("| run | accuracy", "| draw | accuracy")).figures


def test_intervals_in_brackets_and_ranges():
    assert intervals("-0.00 [-0.03, 0.03]") == [(0.0, -0.03, 0.03)]
    assert intervals("1,305 (1,293 to 1,309)") == [(1305.0, 1293.0, 1309.0)]
    assert intervals("11 % [10, 12] and 2e-3 [1e-3, 3e-3]") == [(11, 10, 12), (2e-3, 1e-3, 3e-3)]
    assert intervals("52 to 67") == []
    with pytest.raises(ValueError, match="outside"):
        intervals("290 (293 to 309)")


def test_tables_with_prose_between_them():
    first, second = parse_tables("| a |\n|---|\n| 1 |\n\ntext\n\n| b |\n|:-:|\n| 2 |\n| 3 |\n")
    assert (first.heads, first.rows, first.line) == (("a",), (("1",),), 1)
    assert (second.heads, second.rows, second.line) == (("b",), (("2",), ("3",)), 7)


ROW = "| [`experiments.{0}`](experiments/{0}/expected.md) | Which loss is best? | {1} |\n"
HEAD = "| module | question | answer |\n| --- | --- | --- |\n"


def test_the_table_keeps_the_order_of_the_readme():
    found = {f"experiments.{name}": parse_expected(TEXT) for name in "abc"}
    answer = "DPO. It has 0.65."
    rows = {name: ROW.format(name, answer) for name in "abc"}
    assert experiments_table(found) == HEAD + rows["a"] + rows["b"] + rows["c"]
    readme = "before\n\n" + HEAD + ROW.format("c", "old") + ROW.format("gone", "") + "\nafter\n"
    made = with_table(readme, found)
    assert made == "before\n\n" + HEAD + rows["c"] + rows["a"] + rows["b"] + "\nafter\n"
    assert with_table(made, found) == made
    with pytest.raises(ValueError, match="no table with the heads module, question, answer"):
        with_table("no table\n", found)


def test_a_readme_is_rewritten(tmp_path):
    (tmp_path / "experiments" / "a").mkdir(parents=True)
    figures, readme = tmp_path / "experiments" / "a" / "expected.md", tmp_path / "README.md"
    figures.write_text(TEXT, encoding="utf-8")
    readme.write_text(HEAD, encoding="utf-8")
    write_table(readme)
    assert readme.read_text(encoding="utf-8") == HEAD + ROW.format("a", "DPO. It has 0.65.")
    assert read_all(tmp_path / "experiments") == {"experiments.a": parse_expected(TEXT)}
    figures.write_text(changed("0.639, 0.664", "0.7, 0.8"), encoding="utf-8")
    with pytest.raises(InputError, match=r"expected.md: line 19: "):
        write_table(readme)
    readme.write_text("no table\n", encoding="utf-8")
    figures.write_text(TEXT, encoding="utf-8")
    with pytest.raises(InputError, match=r"README.md: no table"):
        write_table(readme)
