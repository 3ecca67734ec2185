"""Twenty lines of each benchmark, in its publisher's format."""

from __future__ import annotations

from typing import Any


def rewardbench() -> list[dict[str, Any]]:
    subsets = ["math-prm", "hep-go", "donotanswer", "mt-bench-hard", "alpacaeval-easy"]
    return [
        {
            "prompt": f"Question {i}?", "chosen": f"right {i}", "chosen_model": "a",
            "rejected": f"wrong {i}", "rejected_model": "b", "subset": subsets[i % 5], "id": i,
        }
        for i in range(20)
    ]  # fmt: skip


def rewardbench_2() -> list[dict[str, Any]]:
    rows = []
    for i in range(20):
        if i < 12:
            subset, name, right = ("Factuality", "Precise IF", "Math")[i % 3], str(i), 1
        else:
            subset, right = "Ties", 2 - i % 2
            name = f"{'ref' if right == 1 else 'tied'}:{i // 2}"
        wrong = 3
        rows.append(
            {
                "id": name, "prompt": f"Question {i}?", "subset": subset,
                "chosen": [f"right {i}.{k}" for k in range(right)],
                "rejected": [f"wrong {i}.{k}" for k in range(wrong)],
                "num_correct": right, "num_incorrect": wrong, "total_completions": right + wrong,
                "models": ["m"] * (right + wrong), "additional_metadata": None,
            }
        )  # fmt: skip
    return rows


def rm_bench() -> list[dict[str, Any]]:
    domains = ["chat", "code", "math", "safety-refuse", "safety-response"]
    return [
        {
            "id": f"{domains[i % 5]}/{i}", "prompt": f"Question {i}?",
            "chosen": [f"right {i}.{k}" for k in range(3)],
            "rejected": [f"wrong {i}.{k}" for k in range(3)], "domain": domains[i % 5],
        }
        for i in range(20)
    ]  # fmt: skip


def judgebench() -> list[dict[str, Any]]:
    sources = [
        "mmlu-pro-law",
        "livebench-reasoning",
        "livebench-math",
        "livecodebench",
    ]
    return [
        {
            "pair_id": f"p{i}", "original_id": str(i), "source": sources[i % 4],
            "question": f"Question {i}?", "response_model": "gpt-4o-2024-05-13",
            "response_A": f"right {i}" if i % 3 else f"wrong {i}",
            "response_B": f"wrong {i}" if i % 3 else f"right {i}",
            "label": "A>B" if i % 3 else "B>A",
        }
        for i in range(20)
    ]  # fmt: skip


def ppe_preference() -> list[dict[str, Any]]:
    winners = ["model_a", "model_b", "tie", "tie (bothbad)", "model_b"]
    return [
        {
            "question_id": f"q{i}", "model_a": "a", "model_b": "b", "winner": winners[i % 5],
            "prompt": f"Question {i}?", "language": "English", "hard_prompt": False,
            "response_1": f"{'right' if i % 5 == 0 else 'wrong'} {i}",
            "response_2": f"{'wrong' if i % 5 == 0 else 'right'} {i}",
        }
        for i in range(20)
    ]  # fmt: skip


def ppe_correctness() -> list[dict[str, Any]]:
    return [
        {
            "question_id": f"q{i}", "prompt": f"Question {i}?", "model_name": "m",
            "scores": [k < 1 + i % 3 for k in range(4)], "mean_score": (1 + i % 3) / 4,
            **{f"response_{k + 1}": f"answer {i}.{k}" for k in range(4)},
        }
        for i in range(20)
    ]  # fmt: skip


ROWS = {
    "rewardbench": rewardbench,
    "rewardbench-2": rewardbench_2,
    "rm-bench": rm_bench,
    "judgebench": judgebench,
    "ppe-preference": ppe_preference,
    "ppe-correctness": ppe_correctness,
}
"""Name of a benchmark -> twenty lines of it."""
