"""Experiment 7 on a task small enough to be learned in seconds, and its measures by loops."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.arithmetic.chain_sums import (
    EOS,
    Solutions,
    decode,
    encode,
    policy_config,
    prompt_tokens,
    prompts,
    questions,
    right_steps,
    solution_tokens,
    solve,
    step_ends,
)
from experiments.process_rewards import judges
from experiments.process_rewards.config import CONFIG
from experiments.process_rewards.judges import JudgeConfig
from experiments.process_rewards.report import detection, up_to_first_error
from experiments.process_rewards.study import main, solution_scores
from irl_jax.models.decoder import init_params
from irl_jax.models.logprob import completion_logp
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.steps import Completed
from irl_jax.train.progress import Progress
from irl_jax.types import InputError


def solutions(question: str, *texts: str, ended: bool = True) -> Solutions:
    """Written solutions of one question."""
    asked = solve(question)
    ids = [encode(text) + [EOS] * ended for text in texts]
    mask = np.zeros((1, len(texts), max(map(len, ids))), bool)
    action = np.zeros(mask.shape, np.int32)
    for k, row in enumerate(ids):
        mask[0, k, : len(row)], action[0, k, : len(row)] = True, row
    return Solutions([asked], prompts([asked], 16), action, mask)


GOOD, LUCKY, BAD = "1+2=3\n3+3=6\n#6", "1+2=4\n4+3=6\n#6", "1+2=3\n3+3=7\n#7"
WRITTEN = solutions("1 + 2 + 3", GOOD, LUCKY, BAD)


def test_questions_are_reasoning_gyms_and_their_answers_too():
    import reasoning_gym

    tasks = reasoning_gym.create_dataset(
        "chain_sum", size=20, seed=0, min_terms=5, max_terms=5, min_digits=1, max_digits=2
    )
    asked = questions(20, terms=5, digits=2, seed=0)
    for task, question in zip(tasks, asked, strict=True):
        assert question.answer == f"#{task['answer']}"
        assert len(question.lines) == 5
        for line in question.lines[:-1]:
            left, right = line.split("=")
            assert eval(left) == int(right)
        assert len(question.text) <= prompt_tokens(5, 2)
        assert len(question.solution) < solution_tokens(5, 2)
        assert decode(encode(question.solution)) == question.solution
    other = {question.text for question in questions(20, terms=5, digits=2, seed=1)}
    assert not other & {question.text for question in asked}


def test_no_reasoning_gym_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(InputError, match=r"pip install \"irl_jax\[reasoning\]\""):
        questions(1, terms=2, digits=1, seed=0)


def test_no_question_to_test_on_is_named():
    with pytest.raises(InputError, match="held_out: an interval needs 2 questions, got 1"):
        replace(CONFIG, held_out=1)


def test_steps_end_at_newlines_and_at_the_end():
    end = step_ends(WRITTEN.action, WRITTEN.mask)
    assert end.sum(-1).tolist() == [[3, 3, 3]]
    assert np.flatnonzero(end[0, 0]).tolist() == [5, 11, 14]  # the last one is EOS
    cut = solutions("1 + 2 + 3", "1+2=3\n3+", ended=False)
    assert np.flatnonzero(cut.end[0, 0]).tolist() == [5, 7]
    assert cut.answers().tolist() == [[""]] and cut.right().tolist() == [[0.0]]


def test_what_is_right():
    assert WRITTEN.right().tolist() == [[1.0, 1.0, 0.0]]
    at = lambda k: WRITTEN.still_right()[0, k][WRITTEN.end[0, k]].tolist()
    assert [at(k) for k in range(3)] == [[True] * 3, [False] * 3, [True, False, False]]
    assert right_steps(solve("1 + 2 + 3"), GOOD + "\n#6") == [True, True, True, False]
    assert up_to_first_error(WRITTEN).sum(-1).tolist() == [[3, 1, 2]]


def test_a_first_error_is_found_by_the_truth_and_not_by_a_constant():
    truth = WRITTEN.still_right().astype(float)
    two = [WRITTEN, WRITTEN]
    interval, seeds = detection(two, [truth, truth], resamples=20)
    assert interval.estimate == 1.0 and seeds == [1.0, 1.0]
    interval, seeds = detection(two, [truth, 0 * truth], resamples=20)
    assert interval.estimate == 0.75 and seeds == [1.0, 0.5]


def test_rollouts_start_at_ends_of_steps_and_answers_are_checked(monkeypatch):
    seen = {}

    def complete(config, params, prefixes, verify, key, **options):
        seen["prefixes"] = [decode(ids) for ids in prefixes]
        seen["verdicts"] = [
            verify(0, [*encode("3+3=6\n#6"), EOS]),
            verify(0, encode("3+3=6\n#6")),  # cut
            verify(0, [*encode("3+3=6\n#16"), EOS]),
        ]
        return Completed(np.arange(6), 8, 99)

    monkeypatch.setattr(judges, "complete_prefixes", complete)
    with Progress(io.StringIO()) as progress:
        labels = judges.label_steps(
            None, None, WRITTEN, jax.random.key(0), rollouts=8, sampling=Sampling(),
            batch_size=4, progress=progress,
        )  # fmt: skip
    starts = [("1+2=3\n", "3+3=6\n"), ("1+2=4\n", "4+3=6\n"), ("1+2=3\n", "3+3=7\n")]
    assert seen["prefixes"] == [
        f"1+2+3={text}" for first, second in starts for text in (first, first + second)
    ]
    assert seen["verdicts"] == [True, False, False]
    at = WRITTEN.end[0]
    assert [labels["soft"][0, k][at[k]].tolist() for k in range(3)] == [
        [0, 1 / 8, 1], [2 / 8, 3 / 8, 1], [4 / 8, 5 / 8, 0]
    ]  # fmt: skip
    assert [labels["hard"][0, k][at[k]].tolist() for k in range(3)] == [
        [0, 1, 1], [1, 1, 1], [1, 1, 0]
    ]  # fmt: skip
    assert labels["tokens"] == 99


TASK = replace(
    CONFIG.task, terms=2, lessons=400, width=32, layers=1, steps=250, batch_size=32, lr=1e-2
)
JUDGE = JudgeConfig(
    ensemble=replace(CONFIG.judge.ensemble, steps=200, lr=1e-2),
    implicit=replace(CONFIG.judge.implicit, steps=40, batch_size=32, lr=1e-2),
    beta=1.0,
)


@pytest.mark.slow
def test_a_judge_learns_its_labels_and_reads_no_later_step():
    """On a random policy's readings, 1+2=3 is told from 1+2=4 once the labels say so."""
    shape = policy_config(TASK.terms, TASK.digits, width=TASK.width, layers=TASK.layers)
    params = jax.tree.map(lambda x: 8 * x, init_params(shape, jax.random.key(0)))
    written = solutions("1 + 2", "1+2=3\n#3", "1+2=4\n#3", "1+2=3\n#4", "1+2=3\n#13")
    steps = judges.read_steps(shape, params, written, most=4)
    assert steps.mask.sum(-1).tolist() == [[2, 2, 2, 2]]
    np.testing.assert_array_equal(steps.at[..., :2], [[[5, 8], [5, 8], [5, 8], [5, 9]]])
    np.testing.assert_allclose(
        steps.features[0, 0, 0], steps.features[0, 2, 0], rtol=1e-3, atol=1e-4
    )
    fitted = judges.fit_judge(
        steps, steps.labelled(written.still_right()), jax.random.key(0), judge=JUDGE
    )
    logits = judges.judge_logits(fitted, steps, written.mask.shape[-1])
    assert ((logits > 0) == written.still_right())[..., 5].all()  # the first steps
    assert ((logits > 0) == written.still_right())[written.end].mean() >= 7 / 8
    scores = solution_scores({"PRM": logits}, written)
    assert {f"PRM / {rule}" for rule in ("min", "product", "last", "mean")} <= set(scores)
    assert scores["PRM / min"].argmin() == 1

    implicit = judges.fit_implicit(
        shape, params, judges.outcomes(written), jax.random.key(1), judge=JUDGE
    )
    rewards = judges.implicit_rewards(
        shape, implicit, params, written.context, written.action, written.mask, written.end,
        beta=JUDGE.beta,
    )  # fmt: skip
    assert (np.sign(rewards.sum(-1)) == np.sign(written.right() - 0.5)).all()


def test_labels_of_steps_and_of_the_last_step_alone():
    shape = policy_config(3, 1, width=16, layers=1)
    params = init_params(shape, jax.random.key(0))
    steps = judges.read_steps(shape, params, WRITTEN, most=3)
    label = WRITTEN.still_right()
    rows, last = steps.labelled(label), steps.labelled(label, only_last=True)
    assert rows.end.all() and rows.label.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert last.end.tolist() == [[False, False, True]] * 3
    logp = completion_logp(shape, params, WRITTEN.context, WRITTEN.action)
    whole = np.where(WRITTEN.mask, logp, 0).sum(-1)
    np.testing.assert_allclose(steps.logp, whole, rtol=1e-4)
    np.testing.assert_allclose(steps.features[..., -2][..., -1], whole, rtol=1e-4)  # so far
    np.testing.assert_allclose(steps.features[..., -3].sum(-1), whole, rtol=1e-4)  # of each step


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = replace(
        CONFIG,
        run_dir=tmp_path_factory.mktemp("process") / "run",
        seeds=2,
        questions=16,
        solutions=4,
        rollouts=3,
        held_out=16,
        candidates=4,
        task=TASK,
        judge=JUDGE,
        sampling=Sampling(temperature=1.0),
    )
    main(config)
    return config


@pytest.mark.slow
def test_the_summary_says_what_the_kept_arrays_say(finished):
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    assert summary["ns"] == [1, 2, 4]
    accuracy, by_seed = summary["accuracy"], summary["by_seed"]
    shares = []
    for seed in range(2):
        asked = questions(400 + 16 + 16, terms=2, digits=1, seed=seed)[-16:]
        with np.load(finished.run_dir / f"held_out_{seed}.npz") as arrays:
            texts = [[decode(a[m]) for a, m in zip(*row, strict=True)]
                     for row in zip(arrays["action"], arrays["mask"], strict=True)]  # fmt: skip
        right = [[t.split("\n")[-1] == q.answer for t in row]
                 for q, row in zip(asked, texts, strict=True)]  # fmt: skip
        shares.append(np.mean(right))
        assert by_seed["at random"][seed] == pytest.approx(np.mean(right))
        assert by_seed["oracle"][seed] == pytest.approx(np.any(right, axis=1).mean())
    assert 0.05 < np.mean(shares) < 0.98  # there is something to choose
    for name, intervals in accuracy.items():
        if name not in ("majority vote", "majority vote weighted by the PRM (soft, min)"):
            assert intervals[0][0] == pytest.approx(np.mean(shares)), name  # n = 1
        assert intervals[-1][0] == pytest.approx(np.mean(by_seed[name]))
        assert intervals[-1][0] <= accuracy["oracle"][-1][0] + 1e-9
    for name, (interval, seeds) in summary["detection"].items():
        assert interval[0] == pytest.approx(np.mean(seeds)), name
    sound, least = summary["sound"], summary["accuracy"]
    assert all(sound[name][0] <= least[name][-1][0] + 1e-9 for name in sound)


@pytest.mark.slow
def test_tokens_are_counted(finished):
    tokens = json.loads((finished.run_dir / "summary.json").read_text())["tokens"]
    for seed in range(2):
        with np.load(finished.run_dir / f"train_{seed}.npz") as arrays:
            assert tokens["solutions"][seed] == arrays["mask"].sum()
        spent = tokens["solutions"][seed] + tokens["rollouts"][seed]
        assert tokens["solutions at equal tokens"][seed] == pytest.approx(
            spent, abs=0.75 * tokens["solutions"][seed]
        )


@pytest.mark.slow
def test_labels_lie_between_0_and_1_and_agree(finished):
    with np.load(finished.run_dir / "labels_0.npz") as labels:
        soft, hard = labels["soft"], labels["hard"]
    assert ((soft >= 0) & (soft <= 1)).all()
    np.testing.assert_array_equal(hard, soft > 0)


@pytest.mark.slow
def test_again_it_reports_what_is_there(finished, capsys):
    main(finished)
    said = capsys.readouterr().out
    assert "this run is complete" in said and "majority vote" in said
    html = (finished.run_dir / "report.html").read_text()
    assert "Where is the first error?" in html and "PRM, soft labels / min" in html
