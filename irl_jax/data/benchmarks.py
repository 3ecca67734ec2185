"""Files of published benchmarks of reward models, as their publishers have them, to records.

A file is JSON Lines, one JSON array, or Parquet, as `irl_jax.data.lines` reads it. A line that
lacks a field of the benchmark, or has a value that the benchmark does not know, is of another
version or another benchmark, and is refused in one line that names the field.

How each is scored: `irl_jax.eval.benchmarks`. Files of labelled steps (ProcessBench, PRM800K,
Math-Shepherd): `irl_jax.data.process_files`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from irl_jax.data.evaluation import EvaluationRecord, evaluation_of
from irl_jax.data.lines import names, read_objects, shown
from irl_jax.types import InputError

REWARDBENCH = (
    "alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med",
    "mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst",
    "llmbar-adver-GPTOut", "llmbar-adver-manual", "refusals-dangerous", "refusals-offensive",
    "xstest-should-refuse", "xstest-should-respond", "donotanswer", "math-prm", "hep-cpp", "hep-go",
    "hep-java", "hep-js", "hep-python", "hep-rust",
)  # fmt: skip
PRIOR_SETS = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
JUDGEBENCH = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""How the source of a pair of JudgeBench begins -> the category that it counts in."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's file.

    Attributes:
        title: what it is called.
        place: where the publisher has it.
        fields: that every line has.
        convert: the line, once it has these fields, in a form of `irl_jax.data.evaluation`; None
            if it does not count. Takes the line and the name of its place.
        subsets: those of the whole benchmark.
        records: number of lines of the whole benchmark that count; 0 if there are several files.
    """

    title: str
    place: str
    fields: tuple[str, ...]
    convert: Callable[[dict[str, Any], str], dict[str, Any] | None]
    subsets: tuple[str, ...]
    records: int


def read_benchmark(
    name: str, path: str | Path, *, ties: Literal["error", "drop"] = "error"
) -> Iterator[EvaluationRecord]:
    """Yields the records of a benchmark's file.

    Args:
        name: of `BENCHMARKS`.
        path: the publisher's file, or a directory of Parquet.
        ties: what becomes of a line with a response that is both chosen and rejected.

    Raises:
        InputError: an unknown name, a line of another version or benchmark, as `read_evaluation`.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark: no {name!r}; expected one of {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    for place, row in objects(path):
        source = f"{path}:{place}"
        expect(benchmark, row, source)
        converted = benchmark.convert(row, source)
        if converted is None:
            continue
        record = evaluation_of(converted, place, source, ties=ties)
        if record is not None:
            yield record


def expect(benchmark: Benchmark, row: Mapping[str, Any], source: str) -> None:
    """Raises `InputError` if a line lacks a field of a benchmark."""
    for name in benchmark.fields:
        if name not in row:
            raise _another(benchmark, source, f"no field `{name}` (fields: {names(dict(row))})")


def _another(benchmark: Benchmark, source: str, what: str) -> InputError:
    return InputError(
        f"{source}: {what}; expected a line of {benchmark.title}, {benchmark.place}, with "
        f"{', '.join(benchmark.fields)}"
    )


def objects(path: str | Path) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """As `read_objects`; of a file that is one JSON array, its items, `item N` from 1."""
    path = Path(path)
    if not path.is_file() or not _is_array(path):
        yield from read_objects(path)
        return
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}); fetch the file again") from error
    if not items:
        raise InputError(f"{path}: an empty list; expected a list of objects")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InputError(f"{path}:item {number}: {shown(item)}; expected an object")
        yield f"item {number}", item


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _known(value: Any, known: tuple[str, ...], field: str, name: str, source: str) -> None:
    if value not in known:
        raise _another(BENCHMARKS[name], source, f"`{field}` is {shown(value)}")


def _rewardbench(row: dict[str, Any], source: str) -> dict[str, Any]:
    _known(row["subset"], REWARDBENCH + PRIOR_SETS, "subset", "rewardbench", source)
    return row


def _rewardbench_2(row: dict[str, Any], source: str) -> dict[str, Any]:
    subsets = BENCHMARKS["rewardbench-2"].subsets
    _known(row["subset"], subsets, "subset", "rewardbench-2", source)
    right = row["chosen"]
    if not isinstance(right, list) or len(right) != row["num_correct"]:
        count = len(right) if isinstance(right, list) else "no list of"
        what = f"{count} `chosen` and `num_correct` {shown(row['num_correct'])}"
        raise _another(BENCHMARKS["rewardbench-2"], source, what)
    return row


def _rm_bench(row: dict[str, Any], source: str) -> dict[str, Any]:
    _known(row["domain"], BENCHMARKS["rm-bench"].subsets, "domain", "rm-bench", source)
    for side in ("chosen", "rejected"):
        if not isinstance(row[side], list) or len(row[side]) != 3:
            raise _another(BENCHMARKS["rm-bench"], source, f"`{side}` is no list of 3 responses")
    kept = {name: row[name] for name in ("id", "prompt", "chosen", "rejected")}
    return {**kept, "subset": row["domain"]}


def _judgebench(row: dict[str, Any], source: str) -> dict[str, Any]:
    _known(row["label"], ("A>B", "B>A"), "label", "judgebench", source)
    found = [c for start, c in JUDGEBENCH.items() if str(row["source"]).startswith(start)]
    if not found:
        raise _another(BENCHMARKS["judgebench"], source, f"`source` is {shown(row['source'])}")
    first, second = row["response_A"], row["response_B"]
    chosen, rejected = (first, second) if row["label"] == "A>B" else (second, first)
    return {
        "id": row["pair_id"], "prompt": row["question"], "chosen": chosen, "rejected": rejected,
        "subset": found[0],
    }  # fmt: skip


def _ppe_preference(row: dict[str, Any], source: str) -> dict[str, Any] | None:
    winner = str(row["winner"])
    if winner.startswith("tie"):
        return None
    _known(winner, ("model_a", "model_b"), "winner", "ppe-preference", source)
    sides = (row["response_1"], row["response_2"])
    chosen, rejected = sides if winner == "model_a" else sides[::-1]
    return {
        "id": row["question_id"], "prompt": row["prompt"], "chosen": chosen, "rejected": rejected,
    }  # fmt: skip


def _ppe_correctness(row: dict[str, Any], source: str) -> dict[str, Any]:
    scores = row["scores"]
    count = len(scores) if isinstance(scores, list) else 0
    given = [row.get(f"response_{i + 1}") for i in range(count)]
    if count < 2 or None in given:
        what = f"{count} `scores` and {count - given.count(None)} responses"
        raise _another(BENCHMARKS["ppe-correctness"], source, what)
    return {
        "id": row["question_id"], "prompt": row["prompt"], "responses": given,
        "scores": [float(score) for score in scores],
    }  # fmt: skip


BENCHMARKS: Mapping[str, Benchmark] = {
    "rewardbench": Benchmark(
        "RewardBench 1", "the split filtered of allenai/reward-bench",
        ("prompt", "chosen", "rejected", "subset", "id"), _rewardbench, REWARDBENCH, 2985,
    ),
    "rewardbench-2": Benchmark(
        "RewardBench 2", "allenai/reward-bench-2",
        ("prompt", "chosen", "rejected", "num_correct", "subset", "id"), _rewardbench_2,
        ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"), 1865,
    ),
    "rm-bench": Benchmark(
        "RM-Bench", "THU-KEG/RM-Bench", ("id", "prompt", "chosen", "rejected", "domain"),
        _rm_bench, ("chat", "code", "math", "safety-refuse", "safety-response"), 1327,
    ),
    "judgebench": Benchmark(
        "JudgeBench", "the GPT-4o pairs of ScalerLab/JudgeBench",
        ("pair_id", "source", "question", "response_A", "response_B", "label"), _judgebench,
        tuple(JUDGEBENCH.values()), 350,
    ),
    "ppe-preference": Benchmark(
        "PPE, human preferences", "lmarena-ai/PPE-Human-Preference-V1",
        ("question_id", "prompt", "response_1", "response_2", "winner"), _ppe_preference,
        (), 0,
    ),
    "ppe-correctness": Benchmark(
        "PPE, correctness", "one of lmarena-ai/PPE-*-Best-of-K",
        ("question_id", "prompt", "response_1", "response_2", "scores"), _ppe_correctness, (), 0,
    ),
}  # fmt: skip
"""Name -> the benchmark's file."""
