"""Published aggregates against loops in float64, and against published tables."""

from __future__ import annotations

import numpy as np
import pytest

from irl_jax.data.benchmarks import BENCHMARKS, PRIOR_SETS, REWARDBENCH
from irl_jax.eval.benchmarks import (
    COUNTS,
    PUBLISHED,
    aggregate,
    first_error,
    in_both_orders,
    processbench,
    rewardbench,
    rewardbench_2,
    right,
    rm_bench,
)
from irl_jax.types import InputError
from tests.oracles import benchmarks as oracle


def close(found, expected):
    assert set(found.parts) | {"overall"} == set(expected)
    first = getattr(found.overall, "estimate", found.overall)
    assert first == pytest.approx(expected["overall"], abs=1e-12)
    for name, value in found.parts.items():
        assert value == pytest.approx(expected[name], abs=1e-12)


def draw(seed, subsets, width, count=60):
    """Records with rewards of a few values, so that some are equal, and unequal subsets."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(len(subsets)))
    names = [*subsets, *rng.choice(subsets, count, p=share)]
    return names, rng.integers(0, 4, (len(names), width)).astype(float)


@pytest.mark.parametrize("prior", [(), PRIOR_SETS[:1], PRIOR_SETS])
@pytest.mark.parametrize("subsets", [REWARDBENCH, REWARDBENCH[9:]])
def test_rewardbench(prior, subsets):
    names, rewards = draw(0, [*subsets, *prior], 2)
    values = [right("rewardbench", r, 1, None) for r in rewards]
    found = aggregate("rewardbench", values, names, np.arange(len(names)), resamples=50)
    close(found, oracle.rewardbench([(n, *r) for n, r in zip(names, rewards, strict=True)]))
    assert found.missing == [s for s in REWARDBENCH if s not in subsets]


def test_rewardbench_counts_math_as_much_as_code():
    assert sum(COUNTS.values()) - COUNTS["math-prm"] + 447 == BENCHMARKS["rewardbench"].records
    code = [s for s in REWARDBENCH if s.startswith("hep-")]
    assert COUNTS["math-prm"] == sum(COUNTS[s] for s in code)
    means = dict.fromkeys(code, 1.0) | {"math-prm": 0.0}
    assert rewardbench(means)["Reasoning"] == rewardbench(means)["overall"] == 0.5


def test_published_tables_are_means_of_their_parts():
    """Sections of Llama-3.1-Nemotron-70B-Reward and others, as their pages have them."""
    section = {"mt-bench-easy": 97.5, "mt-bench-hard": 85.7, "donotanswer": 95.1, "math-prm": 98.1}
    assert round(rewardbench(section)["overall"], 1) == 100 * PUBLISHED["rewardbench"].value
    rows = (80.8, 36.9, 67.8, 86.9, 77.8, 83.1)
    means = dict(zip(BENCHMARKS["rewardbench-2"].subsets, rows, strict=True))
    assert round(rewardbench_2(means)["overall"], 1) == 100 * PUBLISHED["rewardbench-2"].value
    domains = {"chat": 86.2, "math": 82.4, "code": 66.8, "safety": 94.1}
    full = {name: np.full((3, 3), value) for name, value in domains.items()}
    found = rm_bench(full)
    assert round(found["overall"], 1) == pytest.approx(100 * PUBLISHED["rm-bench"].value)
    assert {name: found[name] for name in domains} == pytest.approx(domains)


def test_rewardbench_2():
    subsets = BENCHMARKS["rewardbench-2"].subsets[:5]
    names, rewards = draw(1, subsets, 4)
    values = [right("rewardbench-2", r, 1, None) for r in rewards]
    expected = oracle.best_of(list(zip(names, rewards.tolist(), strict=True)))
    clusters = np.arange(len(names))
    found = aggregate("rewardbench-2", values, names, clusters, resamples=50)
    close(found, expected | {"overall": np.mean(list(expected.values()))})
    assert found.missing == ["Ties"]
    ties = {"Ties": 0.9}
    both = aggregate("rewardbench-2", values, names, clusters, replaced=ties)
    close(both, expected | ties | {"overall": np.mean([*expected.values(), 0.9])})
    assert isinstance(both.overall, float)


@pytest.mark.parametrize("seed", range(3))
def test_rm_bench(seed):
    names, rewards = draw(seed, BENCHMARKS["rm-bench"].subsets, 6)
    values = [right("rm-bench", r, 3, None) for r in rewards]
    found = aggregate("rm-bench", values, names, np.arange(len(names)), resamples=50)
    rows = [(n, r[:3], r[3:]) for n, r in zip(names, rewards.tolist(), strict=True)]
    close(found, oracle.rm_bench(rows))
    assert found.missing == []


def test_judgebench_is_the_share_of_pairs():
    names, rewards = draw(2, BENCHMARKS["judgebench"].subsets, 2)
    values = [right("judgebench", r, 1, None) for r in rewards]
    found = aggregate("judgebench", values, names, np.arange(len(names)), resamples=50)
    pairs = [float(a > b) for a, b in rewards]
    expected = oracle.by_subset(zip(names, pairs, strict=True))
    close(found, expected | {"overall": sum(pairs) / len(pairs)})
    assert found.overall.low < found.overall.estimate < found.overall.high


def test_both_orders_of_every_pair_of_verdicts():
    for first in (-1, 0, 1):
        for second in (-1, 0, 1):
            votes = [first, second].count(1) - [first, second].count(-1)
            assert in_both_orders([[first, second]]) == float(votes > 0)
    with pytest.raises(InputError, match="decisions"):
        in_both_orders([[1, 2]])
    with pytest.raises(InputError, match="decisions"):
        in_both_orders([[1, 1, 1]])


def test_ppe():
    found = aggregate(
        "ppe-preference",
        [right("ppe-preference", r, 1, None) for r in ([2.0, 1.0], [1.0, 1.0], [0.0, 1.0])],
        ["all"] * 3,
        [0, 1, 2],
        resamples=50,
    )
    assert found.overall.estimate == 0.5 and found.parts == {} and found.missing == []
    own, scores = [3.0, 1.0, 2.0, 1.0], [1.0, 0.0, 0.0, 1.0]
    pairs = [(i, j) for i in range(4) for j in range(4) if scores[i] > scores[j]]
    share = np.mean([1.0 if own[i] > own[j] else 0.5 * (own[i] == own[j]) for i, j in pairs])
    assert right("ppe-correctness", own, 0, scores) == [share]
    alike = right("ppe-correctness", own, 0, [1.0] * 4)
    values = [right("ppe-correctness", own, 0, scores), alike, np.ones(1)]
    found = aggregate("ppe-correctness", values, ["all"] * 3, [0, 1, 2], resamples=50)
    assert found.overall.estimate == (share + 1) / 2
    with pytest.raises(InputError, match="ppe-correctness: no record"):
        aggregate("ppe-correctness", [alike], ["all"], [0])


def test_first_error():
    assert first_error([0.9, 0.5, 0.49, 0.1]) == 2
    assert first_error([0.9, 0.6]) == -1
    assert first_error([0.9, 0.6], 0.7) == 1


@pytest.mark.parametrize("seed", range(5))
def test_processbench(seed):
    rng = np.random.default_rng(seed)
    label = [-1, 0, *rng.integers(-1, 3, 20)]
    guess = rng.integers(-1, 3, 22)
    found = processbench(guess, label)
    assert list(found.values()) == pytest.approx(oracle.processbench(guess, label), abs=1e-12)


def test_processbench_at_its_edges():
    assert processbench([-1, -1], [0, -1]) == {"error": 0.0, "correct": 1.0, "f1": 0.0}
    assert processbench([1, 0], [0, -1]) == {"error": 0.0, "correct": 0.0, "f1": 0.0}
    assert processbench([0, -1], [0, -1])["f1"] == 1.0
    for label, says in (([0, 1], "with an error and answers without"), ([0], "2 answers")):
        with pytest.raises(InputError, match=says):
            processbench([0, 0], label)
