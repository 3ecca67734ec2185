"""The frontier of a language model: one path from its answers to gold at a KL."""

import io
import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.alignment_frontier import language, study
from experiments.alignment_frontier.config import CONFIG
from experiments.alignment_frontier.worlds import LanguageConfig, compared
from experiments.sandbox.runs import Training
from irl_jax.eval.annotator import annotate, logistic_annotator
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rewards.vader import vader
from irl_jax.rollout.session import Completions
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Prompt
from tests.train.compilations import count_compilations

SIZE = LanguageConfig(
    prompts=8,
    held_out=8,
    completions=4,
    max_new_tokens=8,
    pairs_per_prompt=6,
    best_of=8,
    feature_layers=1,
    reward=EnsembleConfig(members=1, widths=(8,), steps=20, batch_size=32, lr=3e-3),
    training=Training(updates=2, every=1, pairs=8, prompts=8, completions=4, lr=5e-3),
    lora=LoraConfig(rank=2, alpha=4.0),
    mesh=MeshConfig(data=2, fsdp=2),
)
TINY = replace(CONFIG, methods=("DPO", "GRPO"), teachers=("proxy",), language=SIZE, seeds=3)


@pytest.fixture(scope="module")
def finished(tiny_model_dir, tmp_path_factory):
    """A finished run, and how often each function was compiled in it."""
    path = tmp_path_factory.mktemp("frontier") / "run"
    config = replace(TINY, model=str(tiny_model_dir), run_dir=path)
    with count_compilations() as counts:
        study.main(config)
    return config, dict(counts)


@pytest.mark.slow
def test_figures_are_those_of_the_runs(finished):
    path: Path = finished[0].run_dir
    summary = json.loads((path / "summary.json").read_text())
    assert [(r["method"], r["teacher"]) for r in summary["rows"]] == [
        ("DPO", "comparisons"), ("GRPO", "proxy"), ("best-of-n", "proxy"), ("best-of-n", "gold")
    ]  # fmt: skip
    for run in summary["runs"][:2]:
        files = [np.load(path / f"{run['method']}_{run['teacher']}_{s}.npz") for s in range(3)]
        for name in ("kl", "gold"):
            np.testing.assert_allclose(run[name], np.mean([f[name][0] for f in files], axis=0))
    best = []
    for seed in range(3):
        with np.load(path / f"responses_{seed}.npz") as arrays:
            text = arrays["text"][8:].reshape(2, 8, 4).swapaxes(0, 1).reshape(8, 8)
        gold = np.array([vader()(row.tolist()) for row in text])
        best.append(((gold - gold.mean()) / gold.std()).max(1).mean())
    assert summary["runs"][-1]["gold"][-1] == pytest.approx(np.mean(best), rel=1e-5)


@pytest.mark.slow
def test_a_step_is_compiled_once_for_all_worlds(finished):
    counts = finished[1]
    assert counts["jit(step)"] == 2  # one a method
    assert counts.get("jit(generate)", 0) <= 2  # to learn, and to measure


@pytest.mark.slow
def test_a_run_goes_on_where_it_was(finished, monkeypatch):
    path: Path = finished[0].run_dir
    before = json.loads((path / "summary.json").read_text())
    (path / "summary.json").unlink()
    monkeypatch.setattr(language, "trace", None)  # nothing is trained again
    study.main(finished[0])
    after = json.loads((path / "summary.json").read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}


def test_comparisons_are_the_annotators():
    """The better side is chosen more often, pairs are of one prompt, and without noise always."""
    rng = np.random.default_rng(0)
    shape = (3, 4, 2)
    gold = rng.normal(size=shape[:2])
    answers = Completions(
        text=[], action=rng.integers(0, 9, shape), mask=np.ones(shape, bool),
        terminated=np.ones(shape[:2], bool), logp=np.zeros(shape), ref_logp=np.zeros(shape),
    )  # fmt: skip
    prompts = Prompt(jnp.arange(3)[:, None], jnp.ones((3, 1), bool))
    index, _ = annotate(gold, logistic_annotator(np.inf), pairs_per_prompt=3, seed=0)
    pairs = compared(prompts, answers, index)
    assert pairs.action.shape == (9, 2, 2)
    for row, (prompt, chosen, rejected) in enumerate(index):
        assert gold[prompt, chosen] > gold[prompt, rejected]
        assert pairs.context.tokens[row] == prompt
        np.testing.assert_array_equal(pairs.action[row, 0], answers.action[prompt, chosen])
        np.testing.assert_array_equal(pairs.action[row, 1], answers.action[prompt, rejected])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, methods=("DPO", "GPRO")), "methods: 'GPRO' is none of DPO, IPO"),
        (lambda c: replace(c, methods=("GRPO",)), "compared to DPO; add it"),
        (lambda c: replace(c, teachers=()), "teachers: name proxy"),
        (lambda c: replace(c, model="smolm2"), "smolm2"),
        (
            lambda c: replace(c, language=replace(SIZE, training=replace(SIZE.training, every=3))),
            r"language\.training\.updates: must be a multiple",
        ),
        (lambda c: replace(c, language=replace(SIZE, best_of=9)), r"language\.best_of: 9"),
        (lambda c: replace(c, language=replace(SIZE, prompts=4)), r"raise language\.prompts"),
        (lambda c: replace(c, language=replace(SIZE, prompts=77)), "only 80 topics"),
    ],
)
def test_bad_input(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        study.main(change(replace(TINY, model="tiny", run_dir=tmp_path / "run")))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "teacher"), [("KTO", "comparisons"), ("PPO", "gold")])
def test_policies_move_and_a_pull_to_the_reference_holds_them(
    tiny_model_dir, tmp_path, name, teacher
):
    training = Training(updates=36, every=36, pairs=16, prompts=8, completions=8, lr=3e-3)
    size = replace(
        SIZE, prompts=16, held_out=48, completions=8, strengths=2, training=training,
        mesh=MeshConfig(data=1),
    )  # fmt: skip
    weak, strong = study.METHODS[name].strengths
    method = replace(study.METHODS[name], strengths=(weak, 50 * strong))
    with RunDirectory(tmp_path / "run", {}) as run, Progress(io.StringIO()) as progress:
        bench = language.on_language_model(
            str(tiny_model_dir), size, seeds=1, beta=4.0, run=run, progress=progress
        )
        found = bench.run(name, method, teacher)
    assert found["gold"].shape == (1, 2, 1)
    # The mean of 384 answers, whose standard error is 0.05; without training it is about 0.
    assert teacher != "gold" or found["gold"][0, 0, 0] > 0.1
    assert found["kl"][0, 0, 0] > 3 * max(found["kl"][0, 1, 0], 0.02)
