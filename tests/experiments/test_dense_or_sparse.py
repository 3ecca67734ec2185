"""Dense or sparse: who was shown what, what a budget pays for, and the whole in small."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.arithmetic.practice import flops_per_token
from experiments.dense_or_sparse import study
from experiments.dense_or_sparse.arms import (
    ARMS,
    DISTIL,
    IGNORANT,
    IMITATE,
    IMITATED,
    REINFORCE,
    SPARSE,
    TEACHER,
    THEN_DISTIL,
    Spender,
    World,
    costs,
    shape_of,
)
from experiments.dense_or_sparse.config import CONFIG
from irl_jax.train.progress import Progress
from irl_jax.types import InputError

TINY = replace(
    CONFIG, seeds=2, budgets=(2,), lessons=8, held_out=4, student=8, teacher=16, layers=1, shown=10,
    prompts=4, completions=2, attempts=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return World(TINY, 1, Progress())


def test_what_is_held_out_is_not_practised(world):
    """Another student has other questions; all have the same numbers of them."""
    practised, held_out = ({q.text for q in asked} for asked in (world.practised, world.held_out))
    assert not practised & held_out
    assert len(held_out) == TINY.held_out
    assert len(practised) == len(world.practised) > 150
    assert world.student.config.d_model == 8
    assert world.teacher.config == world.knowing.config == shape_of(TINY, 16)


def test_a_budget_pays_for_as_much_compute(world):
    """All of an arm's batches, each at what its passes cost, come to the budget and no more."""
    small, large = (flops_per_token(shape_of(TINY, width)) for width in (8, 16))
    passes = {
        REINFORCE: 4 * small,
        TEACHER: 4 * large,
        DISTIL: 4 * small + large,
        IMITATE: 3 * small + 2 * large,
    }
    spender = Spender(world, Progress())
    assert set(costs(TINY)) == set(passes)
    for what, flops in passes.items():
        assert costs(TINY)[what] == pytest.approx(flops / (4 * small))
        spent = spender.steps(what, 300) * flops
        assert 0 <= 300 * 4 * small - spent < flops
        assert spender.steps(what, 0.01) == 1


def test_arms_spend_their_budget_on_what_they_say():
    class Notes(Spender):
        def reinforce(self, model, budget, what=REINFORCE):
            spent.append((what, model, budget))
            return "by reward"

        def distil(self, teacher, budget, what=DISTIL):
            spent.append((what, teacher, budget))
            return "after a teacher"

    class Models:
        student, teacher, knowing = "student", "teacher", "knowing"

    made = {}
    for name, arm in ARMS.items():
        spent = []
        arm(Notes(Models, None), 8)
        made[name] = spent
        assert sum(budget for *_, budget in spent) == 8
    assert made[SPARSE] == [(REINFORCE, "student", 8)]
    assert made[THEN_DISTIL] == [(TEACHER, "teacher", 4), (DISTIL, "by reward", 4)]
    assert made[IMITATED] == [(IMITATE, "knowing", 8)]
    assert made[IGNORANT] == [(DISTIL, "teacher", 8)]


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys, monkeypatch):
    few = {name: ARMS[name] for name in (SPARSE, THEN_DISTIL)}
    monkeypatch.setattr(study, "ARMS", few)
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    found = []
    for number in range(2):
        with np.load(config.run_dir / f"student_{number}.npz") as kept:
            assert kept["before"].shape == (3, 2) and kept["after"].shape == (1, 2, 2)
            found.append(kept["after"][0, :, 0])
    rows = summary["after"]["2"]
    assert list(rows) == list(few)
    means = [row["practised"][0] for row in rows.values()]
    np.testing.assert_allclose(means, np.mean(found, 0), atol=1e-6)
    gain = summary["gain"]["2"][THEN_DISTIL][0]
    assert gain == pytest.approx(means[1] - means[0], abs=1e-6)
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 1
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"budgets": ()}, r"budgets: expected numbers from 1, got \[\]"),
        ({"student": 12}, "student: a width is a multiple of 8, got 12"),
        ({"completions": 1}, "completions"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_too_few_questions_are_refused():
    with pytest.raises(InputError, match="lessons, held_out: of 200 questions 2 are left"):
        World(replace(TINY, lessons=190, held_out=8), 0, Progress())
