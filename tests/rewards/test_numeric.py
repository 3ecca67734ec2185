"""Numbers: what is read, what is refused, how long it takes; GSM8K's own answers and labels."""

import json
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from irl_jax.data.jsonl import PromptRecord
from irl_jax.rewards.numeric import (
    LONGEST,
    equivalent,
    last_number,
    number,
    numeric_verifier,
)
from irl_jax.rewards.text import after, boxed, first_of, stated
from irl_jax.types import InputError

GSM8K = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gsm8k"
real_data = pytest.mark.skipif(
    not GSM8K.exists(), reason=f"needs GSM8K (github.com/openai/grade-school-math) in {GSM8K}"
)

READ = {
    "18": 18,
    "007": 7,
    "-0": 0,
    "+5": 5,
    "3.50": "7/2",
    ".5": "1/2",
    "5.": 5,
    "1,234,567.00": 1234567,
    "$1,234.50": "2469/2",
    "−5": -5,
    "- 5": -5,
    "$-5": -5,
    "-$5": -5,
    "– 3/4": "-3/4",
    "3/4": "3/4",
    "1 1/2 cups": "3/2",
    "-1 1/2": "-3/2",
    "1½": "3/2",
    "-½": "-1/2",
    r"\frac{1}{2}": "1/2",
    r"-\dfrac{3}{4}": "-3/4",
    r"2\tfrac{1}{4}": "9/4",
    r"\frac{-1.5}{3}": "-1/2",
    "1.5e3": 1500,
    "1E-2": "1/100",
    r"1.5 \times 10^{3}": 1500,
    "2 × 10^-3": "1/500",
    "50%": "1/2",
    r"12.5\%": "1/8",
    "50 percent": "1/2",
    "$18$": 18,
    r"$\$5$": 5,
    "$1{,}000$": 1000,
    "**18**": 18,
    "(5)": 5,
    "18 eggs.": 18,
    "18 USD": 18,
    "€3": 3,
    "30 km/h": 30,
    "5 m^2": 5,
    "5 m²": 5,
    r"90^\circ": 90,
    r"7\text{ dollars}": 7,
    "x = 5": 5,
    "2 + 3 = 5": 5,
    "1.8 billion": 1800000000,
    "2 hundred": 200,
}
REFUSED = [
    *["", "eggs", "five", "٣", "1/0", r"\frac{1}{0}", "1e1001", "1e999999999", "9" * 401],
    *["3 or 4", "3-4", "10-5", "3:30", "1.2.3", "1,23", "1,234,56", "1/2/3", "5²", "2^3", "2**3"],
    *["2+3", "10+x", "10-x", "3x", "2*3", "A5", "-(5)", "5 < x", r"\sqrt{2}", r"\frac{\pi}{2}"],
    *[r"2\pi", "1-1/2", "__import__('os')", "1_000", "3 + 4 ="],
]


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_read(text, value):
    assert number(text) == Fraction(value)


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_refused(text):
    assert number(text) is None
    assert not equivalent(text, text)


WRITTEN = [
    lambda n, d: f"{n}/{d}",
    lambda n, d: rf"\frac{{{n}}}{{{d}}}",
    lambda n, d: f"${'-' if n < 0 else ''}{abs(n):,}/{d}".replace("-", "−"),
    lambda n, d: f"{'-' if n < 0 else ''}{abs(n) // d} {abs(n) % d}/{d} units",
]


@given(n=st.integers(-(10**9), 10**9), d=st.integers(1, 10**6), which=st.sampled_from(WRITTEN))
def test_every_fraction_is_read_exactly(n, d, which):
    assert number(which(n, d)) == Fraction(n, d)


@given(units=st.integers(-(10**12), 10**12), places=st.integers(0, 8), zeros=st.integers(0, 3))
def test_every_decimal_is_read_exactly(units, places, zeros):
    value = Fraction(units, 10**places)
    digits = f"{abs(units):0{places + 1}d}"
    whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
    sign = "-" if units < 0 else ""
    for head in (whole, f"{int(whole):,}"):
        text = f"{sign}${head}.{part}{'0' * zeros}"
        assert number(text) == value
        assert number(last_number(f"It is {text}.")) == value
    assert number(f"{units}e-{places}") == value
    assert number(f"{sign}{head}.{part}%") == value / 100


@settings(max_examples=50)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_read_or_refused_and_equivalence_is_symmetric(one, other):
    assert equivalent(one, other) == equivalent(other, one)
    assert equivalent(one, one) == (number(one) is not None)


@settings(max_examples=200)
@example("1E400")  # a number of 401 digits
@given(st.text(alphabet="0123456789.,/-+eE%$ \\{}frac^x=", max_size=30))
def test_texts_like_numbers_are_read_or_refused(text):
    value = number(text)
    assert (
        value is None
        or equivalent(text, str(value))
        or "%" in text
        or len(str(value)) > LONGEST  # which is refused itself
    )


def test_a_percentage_is_either_number_but_these_differ():
    assert equivalent("25%", "25") and equivalent("25%", "0.25") and equivalent("25%", "25 percent")
    assert not equivalent("25", "0.25")
    assert not equivalent("25%", "2500")
    assert not equivalent("0.3", "0.30000000000000004")


HOSTILE = [
    *["1" * 10**6, "1," * 500_000, "1 " * 500_000, "1" + " " * 10**6, "-" * 10**6],
    *["1/" * 500_000, "1e" * 500_000, r"\frac{1}{" * 100_000, r"\boxed{" * 150_000, "{" * 10**6],
    *["answer is " * 100_000, "####" * 250_000, ".," * 500_000, "=" * 10**6],
    r"\boxed{" + "{" * 10**6,
    "1,234" * 200_000,
    "answer" + " " * 10**6,
]


@pytest.mark.parametrize("length", [390, 400, 401, 100_000])
def test_a_number_is_found_however_long_its_line_is(length):
    line = "#### 18 eggs, since " + "she sells what is left " * (length // 23)
    assert number(after("####")(f"16 - 3 = 13\n{line}\n")) == 18
    assert number("x" * length + " = 18") == 18
    assert number(" " * length + "18" + " " * length) == 18
    assert equivalent("9" * 400, "9" * 400) and number("9" * 401 + " eggs") is None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_million_characters_take_bounded_time(text):
    start = time.process_time()  # not what else the machine does
    for extract in (boxed, after("####"), stated, last_number, str):
        found = extract(text)
        if found is not None:
            number(found)
    assert time.process_time() - start < 5


def test_the_number_at_the_end_is_a_guess():
    assert last_number("3 hens lay -1,200.50 eggs.") == "-1,200.50"
    assert last_number("10-5") == "5"
    assert last_number(r"It lost -\$7.") == r"-\$7"
    assert last_number("no number") is None


def test_the_verifier_compares_with_a_field_of_the_record():
    verify = numeric_verifier(
        first_of(boxed, stated, last_number), field="answer", extract_truth=after("####")
    )
    record = PromptRecord("?", {"answer": "9 * 2 = 18\n#### 1,018"}, "gsm8k.jsonl:3")
    texts = [r"\boxed{1018}", "The answer is $1,018.00.", "no idea", "perhaps 1019", ""]
    rewards = verify(texts, [record] * 5)
    assert rewards.dtype == np.float64
    np.testing.assert_array_equal(rewards, [1, 1, 0, 0, 0])
    with pytest.raises(InputError, match="2 responses for 1 records; give one each"):
        verify(["1", "2"], [record])
    with pytest.raises(InputError, match=r"^b:1: no field `answer` \(fields: gold\); name the"):
        verify(["1"], [PromptRecord("?", {"gold": "1"}, "b:1")])
    with pytest.raises(InputError, match=r"^b:2: `answer` gives no number; fix it, or"):
        verify(["1"], [PromptRecord("?", {"answer": "1"}, "b:2")])


def rows(name):
    return [json.loads(line) for line in (GSM8K / name).read_text("utf-8").splitlines()]


@real_data
def test_every_answer_of_gsm8k_is_read():
    answers = [row["answer"] for name in ("train.jsonl", "test.jsonl") for row in rows(name)]
    assert len(answers) == 8792
    for answer in answers:
        final = answer.rsplit("#### ", 1)[1]
        assert number(after("####")(answer)) == Fraction(final.replace(",", ""))
        assert number(last_number(answer)) == Fraction(final.replace(",", ""))


@real_data
def test_labels_of_recorded_solutions_are_reproduced():
    checked = agree = 0
    verify = numeric_verifier(after("A:"), field="truth", extract_truth=after("A:"))
    for row in rows("example_model_solutions.jsonl"):
        record = PromptRecord(row["question"], {"truth": row["ground_truth"]}, "")
        solutions = [v for v in row.values() if isinstance(v, dict)]
        labels = verify([s["solution"] for s in solutions], [record] * len(solutions))
        agree += int((labels == [s["is_correct"] for s in solutions]).sum())
        checked += len(solutions)
    assert (agree, checked) == (5276, 5276)
