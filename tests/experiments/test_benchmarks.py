from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from experiments.benchmarks import launch, sampling, sft_step


def number(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    assert found, output
    return float(found[1].replace(",", ""))


def test_sft_step_reports_its_share_of_the_matmul_rate(capsys, monkeypatch):
    monkeypatch.setattr(sft_step, "matmul_rate", lambda dtype: 100.0)
    monkeypatch.setattr(sft_step, "seconds", lambda call, repeats: [(call(), 0.5)[1]] * repeats)
    sft_step.main(replace(sft_step.CONFIG, model="tiny", batch=2, length=8, repeats=1))
    output = capsys.readouterr().out
    parameters = number(r"parameters\s+([\d,]+)", output)
    share = 6 * parameters * 16 / 0.5 / 1e9 / 100
    assert number(r"tokens / time\s+([\d.]+) % of it", output) == pytest.approx(
        100 * share, rel=1e-3
    )


def test_sampling_times_only_what_it_drew():
    config = replace(
        sampling.CONFIG, model="tiny", prompts=2, completions=2, prompt_tokens=4, new_tokens=3,
        repeats=1,
    )  # fmt: skip
    times = sampling.time_ours(config)
    assert len(times) == 1
    assert times[0] > 0


@pytest.mark.slow
def test_launch_marks_are_in_order(capsys):
    launch.main(replace(launch.CONFIG, model="tiny", length=8))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        marks = [float(x) for x in re.findall(r"[a-z] (\d+\.\d)", line)]
        assert len(marks) == 5
        assert marks == sorted(marks)


def test_worker_prints_json(capsys):
    config = replace(
        sampling.CONFIG, model="tiny", prompts=1, prompt_tokens=2, new_tokens=2, repeats=1,
        worker="irl_jax",
    )  # fmt: skip
    sampling.main(config)
    assert len(json.loads(capsys.readouterr().out)) == 1
