"""Likelihood or an inverse soft Q: what is learned from, what is compared where."""

import io
import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.mle_or_inverse_q import solutions
from experiments.mle_or_inverse_q.config import CONFIG, LearningConfig, SolutionsConfig
from experiments.mle_or_inverse_q.study import at_equal, main, of_worlds
from experiments.mle_or_inverse_q.worlds import (
    MLE,
    STOPPED,
    arms_of,
    gold_at_likeness,
    learn,
    learn_one,
    likeness,
    sentences,
    surprise,
    surprise_of,
    write,
)
from experiments.sandbox.expert import ExpertConfig, demonstrate
from experiments.sandbox.runs import Measuring
from experiments.sandbox.task import SandboxConfig, make_task
from irl_jax.models.logprob import completion_logp, completion_q, sequence_logp
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError
from tests.experiments.conftest import write_jsonl

SANDBOX = SandboxConfig(
    vocabulary=6, prompt_tokens=2, max_new_tokens=5, width=8, layers=1, demonstrations=256,
    steps=60, batch_size=32,
)  # fmt: skip
LEARNING = LearningConfig(updates=24, every=6, rows=8, lr=2e-2)
TINY = replace(
    CONFIG,
    seeds=2,
    demonstrations=(8, 16),
    lams=(0.0, 1.0),
    temperatures=(0.5, 1.0),
    equal=(1.0,),
    sandbox=SANDBOX,
    expert=ExpertConfig(tilt=3.0, pool=8),
    learning=LEARNING,
    measuring=Measuring(prompts=4, completions=3),
)


@pytest.fixture(scope="module")
def tasks():
    return jax.tree.map(lambda *x: jnp.stack(x), *(make_task(SANDBOX, seed) for seed in (0, 1)))


@pytest.fixture(scope="module")
def shown(tasks):
    keys = jax.random.split(jax.random.key(0), 2)
    return demonstrate(tasks, keys, count=16, config=TINY.expert)[0]


@pytest.fixture(scope="module")
def validation(tasks):
    keys = jax.random.split(jax.random.key(5), 2)
    return sentences(demonstrate(tasks, keys, count=12, config=TINY.expert)[0])


@pytest.fixture(scope="module")
def learned(tasks, shown, validation):
    keys = jax.random.split(jax.random.key(1), 2)
    return learn(
        tasks, sentences(shown), validation, keys, jnp.array([8, 16]), jnp.array([0.0, 1.0]),
        config=LEARNING, discount=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def policies(learned):
    return learned[0]


def arm(tree, *place):
    return jax.tree.map(lambda x: x[place], tree)


def test_demonstrations_are_read_after_their_prompts(tasks, shown):
    rows = sentences(shown)
    task, own = arm(tasks, 0), arm(shown, 0)
    found = surprise(tasks, rows, jax.tree.map(lambda x: x[:, None, None], tasks.reference))
    logp = completion_logp(task.config, task.reference, own.context, own.action)
    by_hand = -np.where(own.mask, logp, 0.0).sum(-1).mean()
    assert float(found[0, 0, 0]) == pytest.approx(float(by_hand), rel=1e-4)
    assert not np.asarray(rows.mask)[..., :2].any()


def test_without_a_penalty_it_is_likelihood(tasks, shown, policies):
    """The control: λ = 0 and MLE end alike, λ = 1 elsewhere, and so do 8 and 16 demonstrations."""
    found = np.asarray(surprise(tasks, sentences(shown), policies))
    np.testing.assert_allclose(found[..., 1], found[..., 0], atol=1e-2)
    assert np.all(np.abs(found[..., 2] - found[..., 0]).max(1) > 5e-2)  # in both worlds
    assert np.all(np.abs(found[:, 1] - found[:, 0])[..., 0] > 5e-2)


def test_what_is_stopped_is_where_the_validation_is_likeliest(tasks, shown, validation, learned):
    """Each number of updates is run apart; λ is of the others, and learns from other rows."""
    policies, stopped = learned
    task, keys = arm(tasks, 0), jax.random.split(jax.random.key(1), 2)

    @partial(jax.jit, static_argnames="updates")
    def after(lam, *, updates):
        config = replace(LEARNING, updates=updates, every=updates)
        found = learn_one(
            task, arm(sentences(shown), 0), arm(validation, 0), keys[0], jnp.array(16), lam,
            config=config, discount=1.0,
        )["last"]  # fmt: skip
        return found, surprise_of(task, arm(validation, 0), found)

    for a, (number, lam) in enumerate(((0, jnp.array(0.0)), (2, jnp.array(1.0)))):
        traces = {0: (task.reference, surprise_of(task, arm(validation, 0), task.reference))}
        traces |= {n: after(lam, updates=n) for n in (6, 12, 18, 24)}
        best = min(traces, key=lambda n: float(traces[n][1]))
        gaps = np.diff(sorted(float(x[1]) for x in traces.values()))
        if gaps[0] > 1e-3:  # else which is best is rounding's to say
            assert stopped[0, 1, a] == best
        said = float(surprise_of(task, arm(validation, 0), arm(policies, 0, 1, 3 + a)))
        assert said == pytest.approx(float(traces[best][1]), abs=2e-2)
        last = float(surprise_of(task, arm(validation, 0), arm(policies, 0, 1, number)))
        assert last == pytest.approx(float(traces[24][1]), abs=2e-2)


def test_the_penalty_makes_implied_rewards_smaller(tasks, shown, policies):
    """By some tenth after 24 updates; V has to learn how much comes after."""
    task, own = arm(tasks, 0), arm(shown, 0)

    def squares(policy):
        q, value = completion_q(task.config, policy, own.context, own.action)
        later = np.pad(np.asarray(value), ((0, 0), (0, 0), (0, 1)))[..., 1:]
        later = np.where(np.pad(own.mask, ((0, 0), (0, 0), (0, 1)))[..., 1:], later, 0.0)
        return (np.where(own.mask, q - later, 0.0) ** 2).sum()

    assert squares(arm(policies, 0, 1, 2)) < 0.95 * squares(arm(policies, 0, 1, 0))


def test_colder_samples_are_more_alike(tasks, policies):
    keys = jax.random.split(jax.random.key(2), 2)
    draw = lambda t: write(tasks, keys, policies, prompts=8, completions=4, temperature=t)
    cold, warm = (jax.device_get(draw(t)) for t in (0.1, 1.0))
    assert cold["gold"].shape == (2, 2, 5, 8, 4)
    of = lambda x: likeness(x["action"], x["mask"])
    assert of(cold).shape == (2, 2, 5)
    assert of(cold).mean() > of(warm).mean() + 0.2


def test_likeness_reads_what_the_mask_shows():
    action = np.array([[[1, 2, 3, 9], [1, 2, 3, 8]], [[1, 2, 9, 9], [4, 5, 9, 9]]])
    mask = np.array([[[1, 1, 1, 0]] * 2, [[1, 1, 0, 0]] * 2], bool)
    np.testing.assert_allclose(likeness(action, mask), 0.5)  # all alike, nothing alike


def test_gold_is_compared_where_samples_are_as_alike():
    alike, gold = np.array([0.9, 0.5, 0.1]), np.array([2.0, 1.0, 0.0])
    assert gold_at_likeness(alike, gold, 0.7) == pytest.approx(1.5)
    assert np.isnan(gold_at_likeness(alike, gold, 0.95))
    config = replace(TINY, temperatures=(0.25, 0.5, 1.0), equal=(0.5,))
    own = {"likeness": alike[None], "gold": gold[None] + 0.25}
    base = {"likeness": alike[None] - 0.2, "gold": gold[None]}
    # MLE has self-BLEU 0.3 and gold 1 at 0.5; there the other has gold 0.5 + 0.25
    np.testing.assert_allclose(at_equal(config, own, base, 0.5), [-0.25])


def test_differences_are_paired_by_world():
    rng = np.random.default_rng(0)
    arms = arms_of(TINY)
    assert arms == [MLE, "λ = 0", "λ = 1", STOPPED, "λ = 1, stopped"]
    shape = (2, 2, len(arms))
    found = {"gold": rng.normal(size=(*shape, 2)), "likeness": rng.uniform(size=(*shape, 2))}
    found |= {"surprise": rng.normal(size=shape), "stopped": rng.normal(size=(2, 2, 2))}
    found |= {"expert": np.ones(2), "apart": np.array(0.0)}
    summary = of_worlds(TINY, found)
    rows = summary["rows"]
    assert [(r["demonstrations"], r["arm"]) for r in rows] == [
        (count, name) for count in TINY.demonstrations for name in arms
    ]
    assert list(rows[5]["less"]) == [STOPPED] and list(rows[8]["less"]) == [MLE]
    for base, number in ((MLE, 0), (STOPPED, 3)):
        own = rows[7]["less"][base]  # λ = 1 from 16 demonstrations
        gap = lambda name, of=number: found[name][:, 1, 2] - found[name][:, 1, of]
        assert own["surprise"].estimate == pytest.approx(gap("surprise").mean())
        assert own["gold"][1].estimate == pytest.approx(gap("gold")[:, 1].mean())
        assert own["likeness"][0].estimate == pytest.approx(gap("likeness")[:, 0].mean())
        assert f"λ = 1, −log π less {base}" in summary["corrected"][1]
    assert [row["at"].estimate for row in rows[8:]] == pytest.approx(found["stopped"][:, 1].mean(0))
    assert not any("at" in row for row in rows[5:8])


def tiny_solutions(folder, model):
    """Short questions whose answer is in them."""
    line = lambda i: {
        "question": f"Describe {i} in one short sentence.",
        "answer": f"It is <<{i}={i}>>{i}.\n#### {i}",
    }
    return SolutionsConfig(
        train=write_jsonl(folder / "train.jsonl", [line(i) for i in range(24)]),
        test=write_jsonl(folder / "test.jsonl", [line(i) for i in range(30, 36)]),
        model=str(model), max_prompt=100, max_new_tokens=28, row=128, rows=2, updates=3, lr=1e-2,
        lora=LoraConfig(4, 8.0), lams=(0.0, 1.0), temperatures=(1.0,), questions=3, completions=2,
        mesh=MeshConfig(data=1),
    )  # fmt: skip


def test_solutions_are_read_without_calculations(tmp_path):
    config = tiny_solutions(tmp_path, "tiny")
    first = next(iter(solutions.read_solutions(config.train)))
    assert first.completion == "It is 0.\n#### 0" and "Describe 0" in first.prompt
    write_jsonl(tmp_path / "bad.jsonl", [{"question": "one", "answer": "two"}])
    with pytest.raises(InputError, match=r"bad\.jsonl:1: expected texts"):
        list(solutions.read_solutions(tmp_path / "bad.jsonl"))


def test_only_a_marked_number_is_an_answer():
    texts = ["so\n#### 1,200", "#### 1200.0", "1200", "#### 12", "#### none"]
    assert solutions.right(texts, "1200") == [True, True, False, False, False]


def test_a_language_model_learns_solutions(tiny_model_dir, tmp_path):
    """Likelier after three updates, by λ = 1 less so; a whole answer is asked for, and refused."""
    config = tiny_solutions(tmp_path, tiny_model_dir)
    run = RunDirectory(tmp_path / "run", {})
    with run, Progress(io.StringIO()) as progress:
        data = solutions.prepare(config, run, progress)
        assert data.answer == ["30", "31", "32"]
        before = solutions.surprise(data, data.training.session.model.params, batch_size=2)
        after = [
            solutions.surprise(data, solutions.train(config, data, lam, progress), batch_size=2)
            for lam in config.lams
        ]
        assert before.shape == (3,) and np.all(after[0] < before)
        model = data.training.session.model
        for item, found in zip(data.test, before, strict=True):
            tokens = jnp.array([[*item.prompt, *item.completion]])
            logp = sequence_logp(model.config, model.params, tokens, jnp.ones_like(tokens))
            by_hand = -logp[0, len(item.prompt) :].mean()
            assert found == pytest.approx(float(by_hand), rel=1e-4)
        assert np.any(np.abs(after[1] - after[0]) > 1e-3)
        with pytest.raises(InputError, match="are short enough"):
            solutions.prepare(replace(config, questions=7), run, progress)


@pytest.mark.slow
def test_a_whole_run(tiny_model_dir, tmp_path):
    config = replace(
        TINY, run_dir=tmp_path / "run", solutions=tiny_solutions(tmp_path, tiny_model_dir)
    )
    main(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    own = summary["sandbox"]
    assert abs(own["rows"][1]["less"][MLE]["surprise"][0]) < 1e-2  # λ = 0
    assert len(own["rows"]) == 10 and len(own["corrected"]) == 2
    for row in own["rows"]:
        assert np.isfinite(row["gold"]).all() and np.isfinite(row["likeness"]).all()
    names = [row["arm"] for row in summary["solutions"]["rows"]]
    assert names == ["untrained", MLE, "λ = 1"]
    for row in summary["solutions"]["rows"]:
        assert np.isfinite(row["surprise"]).all() and len(row["marked"]) == 1
    report = (tmp_path / "run" / "report.html").read_text()
    assert "GSM8K" in report and report.count("<svg") == 4


def test_mistakes_are_named():
    for name, values in (("lams", (0.1, 0.0)), ("temperatures", (1.0, 1.0)), ("lams", ())):
        with pytest.raises(InputError, match=f"{name}: expected numbers in ascending order"):
            replace(CONFIG, **{name: values})
    with pytest.raises(InputError, match="equal: expected some of temperatures"):
        replace(CONFIG, equal=(0.3,))
    with pytest.raises(InputError, match=r"learning\.updates: expected a multiple of .*every, 5"):
        LearningConfig(updates=24, every=5)
    with pytest.raises(InputError, match=r"solutions: give both"):
        SolutionsConfig(train="train.jsonl")
    with pytest.raises(InputError, match=r"solutions\.lams: must begin with 0"):
        SolutionsConfig(lams=(0.1,))
