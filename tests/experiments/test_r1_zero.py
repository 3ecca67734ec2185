"""Reinforcement learning on sums small enough for seconds; questions and measures by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.r1_zero import tasks as r1_tasks
from experiments.r1_zero.config import CONFIG
from experiments.r1_zero.report import Result, summarise
from experiments.r1_zero.study import Learner, World, main, sample, shape
from experiments.r1_zero.tasks import (
    EOS,
    LENGTH,
    SETTINGS,
    WIDTH,
    completions,
    countdown_question,
    decode,
    encode,
    form,
)
from experiments.r1_zero.variants import VARIANTS
from irl_jax.eval.pass_at_k import pass_at_k
from irl_jax.models.decoder import init_params
from irl_jax.models.logprob import completion_logp
from irl_jax.train.objectives import PolicyBatch
from irl_jax.train.state import init_state
from irl_jax.types import Group, InputError


def written(asked: list[str], said: list[list[str]], *, ended: bool = True) -> Group:
    """The group of a policy that says what is given."""
    context = r1_tasks.prompts(asked, WIDTH)
    shape = (len(asked), len(said[0]), max(LENGTH.values()))
    action, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for q, k in np.ndindex(*shape[:2]):
        ids = [*encode(said[q][k]), *[EOS] * ended]
        action[q, k, : len(ids)], mask[q, k, : len(ids)] = ids, True
    nothing = np.zeros(shape, np.float32)
    arrays = (action, mask, nothing, nothing[..., 0], np.full(shape[:2], ended))
    return Group(context, *(jnp.asarray(x) for x in arrays))


@pytest.fixture(scope="module", params=["chain_sum", "countdown"])
def asked(request):
    return r1_tasks.make_questions(request.param, 60, seed=0, **SETTINGS[request.param])


def test_a_policy_that_always_solves_has_accuracy_1_and_pass_at_k_1(asked):
    solved = [(q, s) for q, s in zip(asked.text, asked.solutions, strict=True) if s]
    assert len(solved) > 40
    group = written([q for q, _ in solved], [[s] * 4 for _, s in solved])
    right = r1_tasks.accuracy(asked)(group)
    assert right.dtype == np.float32 and (right == 1).all()
    assert (form(group) == 1).all()
    for k in (1, 2, 4):
        assert (pass_at_k(right, k) == 1).all()


def test_questions_differ_fit_and_are_read_back(asked):
    assert len(set(asked.text)) == len(asked.text)
    for question, solution in zip(asked.text, asked.solutions, strict=True):
        assert decode(encode(question)) == question and len(question) <= WIDTH
        assert solution is None or len(encode(solution)) < LENGTH[asked.task.name]
    group = written(asked.text[:2], [["1", "2\n#3"], ["", "#4"]])
    questions, said = completions(group)
    assert questions == [asked.text[0]] * 2 + [asked.text[1]] * 2
    assert said == ["1", "2\n#3", "", "#4"]


def test_what_is_cut_wrong_or_given_part_marks_is_worth_nothing():
    asked = r1_tasks.make_questions("countdown", 20, seed=0, **SETTINGS["countdown"])
    i = next(i for i, s in enumerate(asked.solutions) if s)
    question, solution = asked.text[i], asked.solutions[i] or ""
    numbers = question.split(">")[0].split()
    sayings = [solution, f"#{numbers[0]}", "#" + "+".join(["99", *numbers]), "#9**9**9", "7=7", ""]
    right = r1_tasks.accuracy(asked)(written([question], [sayings]))
    assert right.tolist() == [[1, 0, 0, 0, 0, 0]]
    assert asked.task([f"#{numbers[0]}"], [asked.records[question]])[0] > 0  # part marks
    cut = written([question], [[solution]], ended=False)
    assert r1_tasks.accuracy(asked)(cut).tolist() == [[0]]
    assert form(cut).tolist() == [[0]]


def test_the_form_is_lines_of_sums_and_an_answer():
    said = ["1+2=3\n#3", "1+2=4\n#9", "#3", "1+2=3", "1+2=\n#3", "1+2=3\n#3\n"]
    assert form(written(["1+2="], [said])).tolist() == [[1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("expression", "solution"),
    [
        ("5 - 2 + 7", "5-2=3\n3+7=10\n#5-2+7"),
        ("(9 + 3)/6", "9+3=12\n12/6=2\n#(9+3)/6"),
        ("6*(1/3)", None),  # a fraction on the way
        ("2 - 7 + 9", None),  # below 0 on the way
        ("-2 + 7 + 1", None),
        ("3/(2 - 2)", None),
    ],
)
def test_countdown_is_worked_out_from_the_inside(expression, solution):
    about = {"numbers": [7, 5, 2], "target": 10, "expression": expression}
    assert countdown_question(about) == ("2 5 7>10", solution)


def test_a_summary_equals_loops_over_questions():
    rng = np.random.default_rng(0)

    def side(share):
        right = rng.random((6, 8)) < share
        return {"right": right, "said": np.full((6, 1), "x")}

    trace = {name: np.arange(5.0) for name in ("accuracy", "entropy", "tokens", "cut", "clipped")}
    results = [
        Result(
            [f"q{i}" for i in range(6)],
            side(0.2),
            {"grpo": {**side(0.5), **trace}, "solves": {**side(2.0), **trace}},
        )
        for _ in range(2)
    ]
    labels = {"grpo": "GRPO", "solves": "S"}
    found = summarise(results, labels=labels, ks=(1, 4), per_batch=10)

    def passed(right, k):
        return [np.mean([any(s) for s in itertools.combinations(row, k)]) for row in right]

    for at, k in enumerate((1, 4)):
        before = [passed(r.before["right"], k) for r in results]
        after = [passed(r.after["grpo"]["right"], k) for r in results]
        assert found["passed"]["before"][at].estimate == pytest.approx(np.mean(before))
        assert found["passed"]["grpo"][at].estimate == pytest.approx(np.mean(after))
        assert found["passed"]["solves"][at] == (1, 1, 1)
        less = found["variants"]["grpo"]["less_before"][str(k)]
        assert less["interval"].estimate == pytest.approx(np.mean(after) - np.mean(before))
        assert less["by_seed"] == pytest.approx(np.mean(after, 1) - np.mean(before, 1))
    assert found["variants"]["grpo"]["completions"] == [50, 50]
    assert found["never"]["solves"] == 0


TINY = replace(
    CONFIG,
    seeds=1,
    chain_sum=("token", "dapo"),  # one loss: one compilation
    countdown=(),
    drawn=100,
    held_out=4,
    attempts=4,
    ks=(1, 2, 4),
    policy=replace(CONFIG.policy, lessons=20, width=16, layers=1, steps=4, batch_size=4),
    # rollouts and tests have one shape: one compilation
    online=replace(CONFIG.online, rollouts=4, prompts=4, completions=4, minibatches=1),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = replace(TINY, run_dir=tmp_path_factory.mktemp("r1") / "run")
    main(config)
    return config


def test_the_whole_in_small(finished, capsys):
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    found = summary["tasks"]["chain_sum"]
    assert [*found["passed"]] == ["before", "token", "dapo"]
    for name in ("before", "token", "dapo"):
        with np.load(finished.run_dir / f"{name}_chain_sum_0.npz") as kept:
            right = kept["right"]
            assert right.shape == (4, 4)
            assert found["passed"][name][2][0] == pytest.approx(right.any(1).mean())
    batches = [n[0] / 16 for n in (v["completions"] for v in found["variants"].values())]
    assert all(2 <= n <= 4 for n in batches)  # dynamic sampling never draws more
    main(finished)
    assert "this run is complete" in capsys.readouterr().out
    html = (finished.run_dir / "report.html").read_text()
    assert "Variants on chain_sum" in html and "+ overlong shaping (DAPO)" in html


def test_held_out_questions_are_in_no_lesson_and_in_no_rollout():
    world = World(TINY, "countdown", 3)
    lessons = {question for question, _ in world.lessons}
    held_out, train = set(world.held_out), set(world.train)
    assert len(held_out) == 4 and len(lessons) == 20
    assert not held_out & train and not held_out & lessons and not lessons & train
    batches = world.batches()
    seen = [next(batches) for _ in range(3)]
    drawn = {decode(row) for batch in seen for row in np.asarray(batch.tokens).tolist()}
    assert len(drawn) == 12 and drawn <= train


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VARIANTS])
def test_an_update_of_every_variant_favours_what_is_right(name):
    """One small step on planted rewards: right completions become likelier than wrong ones."""
    decoder = shape(TINY.policy)
    params = init_params(decoder, jax.random.key(0))
    context = r1_tasks.prompts(["1+2+3=", "4-5+6=", "7+8-9=", "1-1+1="], WIDTH)
    group = sample(decoder, params, context, jax.random.key(1), completions=4, max_new_tokens=24)
    right = jnp.arange(4) % 2 == jnp.arange(4)[:, None] // 2
    group = dataclasses.replace(group, reward=right.astype(jnp.float32))
    learner, variant = Learner(TINY), VARIANTS[name]
    state = init_state(params, learner.optimizer(4), jax.random.key(2))
    batch = PolicyBatch(group, variant.advantage(group.reward))
    after, _ = learner.step(variant.loss, 4)(state, batch, None)

    def likelihood(params):
        logp = completion_logp(decoder, params, group.context, group.action)
        return np.where(group.mask, logp, 0.0).sum(-1)

    gain = likelihood(after.params) - likelihood(params)
    assert gain[np.asarray(right)].mean() > gain[~np.asarray(right)].mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain_sum": ("gpro",)}, "chain_sum: no variant 'gpro'; have grpo, higher"),
        ({"chain_sum": ()}, "chain_sum, countdown: name a variant"),
        ({"held_out": 1}, "held_out: an interval needs 2 questions, got 1"),
        ({"ks": (1, 8)}, "ks: expected numbers from 1 to attempts = 4"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_too_few_questions_are_named():
    with pytest.raises(InputError, match="drawn: 10 draws of chain_sum gave 10 different"):
        World(replace(TINY, drawn=10), "chain_sum", 0)
    with pytest.raises(InputError, match="task: no 'sudoku'; choose one of chain_sum, countdown"):
        r1_tasks.make_questions("sudoku", 2, seed=0)
