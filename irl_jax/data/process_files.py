"""Files of labelled steps in their publishers' formats: PRM800K, Math-Shepherd, ProcessBench.

Each line becomes the one of `prompt`, `completions` and `labels` that `read_steps` reads, so that
such a file is given where any other one of steps is. It is known by its fields.

* PRM800K (https://github.com/openai/prm800k): the trajectory of chosen steps. A rating of 1 or 0
  is a right step, −1 a wrong one. At a last step of which none was chosen, the first one offered,
  which is that of the solution. A step that a labeler wrote is right.
* Math-Shepherd (peiyi9979/Math-Shepherd): `input` has ки after each step, `label` a + or − there.
* ProcessBench (Qwen/ProcessBench): `label` is the first wrong step, from 0, or −1; the steps
  before it are right, and those after it were not judged.

Reference: Lightman et al. 2023, "Let's Verify Step by Step", arXiv 2305.20050; Wang et al. 2023,
"Math-Shepherd", arXiv 2312.08935; Zheng et al. 2024, "ProcessBench", arXiv 2412.06559. That a
neutral step of PRM800K counts as right is the choice of Qwen/Qwen2.5-Math-7B-PRM800K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from irl_jax.data.lines import shown
from irl_jax.types import InputError

MARK = "ки"  # after each step of Math-Shepherd
Row = dict[str, Any]


@dataclass(frozen=True)
class ProcessFile:
    """A publisher's form of labelled steps.

    Attributes:
        title: what it is called.
        fields: that tell it.
        convert: a line of it and the name of its place to prompt, steps and labels.
    """

    title: str
    fields: tuple[str, ...]
    convert: Callable[[Row, str], tuple[str, list[str], list[bool | None]]]


def as_steps(row: Row, source: str) -> Row:
    """A line with `prompt`, `completions` and `labels`, if it is of one of these files.

    Args:
        row: any line.
        source: `FILE:LINE`.

    Returns:
        The line itself, if it is of none.

    Raises:
        InputError: it is of one, but of another version of it.
    """
    if "completions" in row:
        return row
    for form in PROCESS_FILES.values():
        if set(form.fields) <= set(row):
            prompt, steps, labels = form.convert(row, source)
            return {"prompt": prompt, "completions": steps, "labels": labels}
    return row


def another(source: str, what: str, name: str) -> InputError:
    """The error of a line that is not of a form of `PROCESS_FILES`, or of another version."""
    form = PROCESS_FILES[name]
    return InputError(
        f"{source}: {what}; expected a line of {form.title} as its publisher has it, with "
        f"{', '.join(form.fields)}"
    )


def _prm800k(row: Row, source: str) -> tuple[str, list[str], list[bool | None]]:
    question, label = row["question"], row["label"]
    given = label.get("steps") if isinstance(label, dict) else None
    if not isinstance(question, dict) or "problem" not in question or not isinstance(given, list):
        raise another(source, "no `question.problem` or no `label.steps`", "prm800k")
    steps: list[str] = []
    labels: list[bool | None] = []
    for i, step in enumerate(given):
        offered = step.get("completions") or []
        chosen, written = step.get("chosen_completion"), step.get("human_completion")
        if chosen is None and written:
            steps.append(written["text"] if isinstance(written, dict) else written)
            labels.append(True)
            continue
        if chosen is None and (i + 1 < len(given) or not offered):
            raise another(source, f"`label.steps[{i}]` has no chosen step", "prm800k")
        if chosen is not None and not 0 <= chosen < len(offered):
            what = f"`label.steps[{i}].chosen_completion` is {shown(chosen)}"
            raise another(source, what, "prm800k")
        rated = offered[chosen or 0]
        rating = rated.get("rating")
        if rating not in (None, -1, 0, 1):
            raise another(source, f"`label.steps[{i}]`: rating {shown(rating)}", "prm800k")
        steps.append(rated["text"])
        labels.append(None if rating is None else rating >= 0)
    return question["problem"], steps, labels


def _math_shepherd(row: Row, source: str) -> tuple[str, list[str], list[bool | None]]:
    text, label = row["input"], row["label"]
    parts = text.split(MARK) if isinstance(text, str) else []
    problem, start, first = parts[0].partition("Step 1:") if len(parts) > 1 else ("", "", "")
    if not start or not isinstance(label, str) or parts[-1].strip():
        raise another(source, f"`input` has no {MARK} after each of its steps", "math-shepherd")
    labels: list[bool | None] = []
    place = 0
    for part in parts[:-1]:
        end = place + len(part)
        sign = label[end : end + 1]
        if label[place:end] != part or sign not in ("+", "-"):
            what = f"`label` is not `input` with + or - in the place of {MARK} {len(labels) + 1}"
            raise another(source, what, "math-shepherd")
        labels.append(sign == "+")
        place = end + 1
    return problem.strip(), [(start + first).strip(), *map(str.strip, parts[1:-1])], labels


def _processbench(row: Row, source: str) -> tuple[str, list[str], list[bool | None]]:
    steps, first = row["steps"], row["label"]
    count = len(steps) if isinstance(steps, list) else 0
    if isinstance(first, bool) or not isinstance(first, int) or not -1 <= first < count:
        raise another(source, f"`label` is {shown(first)} of {count} steps", "processbench")
    labels: list[bool | None] = [
        True if first == -1 or i < first else False if i == first else None for i in range(count)
    ]
    return row["problem"], steps, labels


PROCESS_FILES: Mapping[str, ProcessFile] = {
    "prm800k": ProcessFile("PRM800K", ("question", "label", "labeler"), _prm800k),
    "math-shepherd": ProcessFile("Math-Shepherd", ("input", "label", "task"), _math_shepherd),
    "processbench": ProcessFile("ProcessBench", ("problem", "steps", "label"), _processbench),
}
"""Name -> the form."""
