from __future__ import annotations

import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.hh_rlhf_embedding.config import CONFIG
from experiments.hh_rlhf_embedding.study import accuracies, group, learners, main, read
from irl_jax.models.logprob import completion_hidden
from irl_jax.recipes.embeddings import embed_groups, embed_texts
from irl_jax.recipes.language_model import load_language_model
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.progress import Progress
from irl_jax.types import InputError, Prompt
from tests.experiments.conftest import ROWS, write_jsonl

QUICK = EnsembleConfig(members=2, widths=(8,), steps=120, batch_size=32, lr=1e-2)


def dialogues() -> list[dict[str, str]]:
    """The pleasant pairs as HH-RLHF writes them, and one that is a tie."""
    say = lambda row, side: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[side]}"
    rows = [{side: say(row, side) for side in ("chosen", "rejected")} for row in ROWS]
    return [*rows, {"chosen": rows[0]["chosen"], "rejected": rows[0]["chosen"]}]


@pytest.fixture(scope="module")
def finished(encoder_dir, tiny_model_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("hh")
    config = replace(
        CONFIG,
        data=write_jsonl(path / "hh.jsonl", dialogues()),
        run_dir=path / "run",
        language_model=str(tiny_model_dir),
        sentence_encoder=encoder_dir,
        layers=1,
        max_prompt=24,
        max_completion=16,
        seeds=3,
        reward=QUICK,
    )
    main(config)
    return config


def test_every_loss_learns_to_prefer_the_pleasant_on_both_embeddings(finished):
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    assert summary["pairs"] == 48
    assert summary["dialogues"] == 24
    names = {
        f"{e} / {n}" for e in ("sentence encoder", "language model") for n in learners(0.1, QUICK)
    }
    assert set(summary["accuracy"]) == names | {"baseline / shorter answer"}
    for name in names:
        mean, low, high = summary["accuracy"][name]
        assert mean == pytest.approx(np.mean(summary["by_seed"][name]))
        assert low <= mean <= high
        assert mean > 0.85, name
    assert all(abs(d[0]) < 0.15 for d in summary["against_first"].values())
    html = (finished.run_dir / "report.html").read_text()
    assert all(name in html for name in learners(0.1, QUICK))


def test_again_it_reports_what_is_there(finished, capsys):
    before = (finished.run_dir / "report.html").stat().st_mtime_ns
    main(finished)
    said = capsys.readouterr().out
    assert "this run is complete" in said
    assert "language model / Bradley-Terry" in said
    assert (finished.run_dir / "report.html").stat().st_mtime_ns == before


def test_accuracy_is_of_pairs_that_were_not_trained_on():
    """Labels that no feature tells are learned by heart, and right by chance elsewhere."""
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((400, 2, 64)).astype(np.float32)
    train = rng.random((4, 400)) < 0.5
    config = replace(QUICK, steps=300, widths=(64,), weight_decay=0.0)
    learn = learners(0.1, config)["Bradley-Terry"]
    held_out = accuracies(pairs, train, learn)
    assert held_out.shape == (4,)
    assert abs(held_out.mean() - 0.5) < 0.1
    twice = np.concatenate([pairs, pairs])
    first = np.arange(800)[None] < 400
    learned = accuracies(twice, first, learn)
    assert learned[0] > 0.95


def test_features_of_a_completion_do_not_depend_on_its_batch(tiny_model_dir, tmp_path):
    with Progress(io.StringIO()) as progress:
        model = load_language_model(
            str(tiny_model_dir), tmp_path, seed=0, dtype="float32", progress=progress
        )
    records, _ = read(write_jsonl(tmp_path / "hh.jsonl", dialogues()))
    encoder = model.encoder(max_prompt=24, max_completion=16, overlong="truncate")
    pairs = encoder.groups(group(record) for record in records)
    out = embed_groups(model, pairs, layers=1, batch_size=5, advance=lambda done, _: None)
    one = replace(model.config, n_layers=1)
    params = {**model.params, "layers": jax.tree.map(lambda x: x[:1], model.params["layers"])}
    for i in (0, 17, 47):
        prompt = np.array([pairs[i].prompt])
        context = Prompt(prompt, np.ones_like(prompt, bool))
        for side, ids in enumerate(pairs[i].completions):
            hidden = completion_hidden(one, params, context, np.array([[ids]]))
            np.testing.assert_allclose(out[i, side], hidden[0, 0].mean(0), rtol=1e-4, atol=1e-5)


def test_of_a_long_text_the_end_is_read(encoder_dir):
    texts = ["It is lovely and", "awful " * 60 + "It is lovely and", "awful"]
    advance = lambda done, _: None
    vectors = embed_texts(encoder_dir, texts, max_tokens=6, batch_size=2, advance=advance)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 0.01


def test_a_batch_is_padded_to_the_context_of_the_encoder_at_most(encoder_dir):
    """33 tokens, which a multiple of 32 would make 64, more than the context of 48."""
    texts, advance = ["awful " * 31, "It is lovely and"], lambda done, _: None
    together = embed_texts(encoder_dir, texts, max_tokens=48, batch_size=2, advance=advance)
    alone = embed_texts(encoder_dir, texts[1:], max_tokens=48, batch_size=1, advance=advance)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)


def test_no_data_and_too_little_are_named(tmp_path):
    with pytest.raises(InputError, match=r"^data: no file of comparisons; give one, --data"):
        read(None)
    few = write_jsonl(tmp_path / "few.jsonl", dialogues()[:6])
    with pytest.raises(InputError, match="3 dialogues are too few to split"):
        read(few)
