"""A language model on a mesh: what it is asked, and what is known of its completions."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.data.jsonl import PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.logprob import completion_hidden, completion_logp
from irl_jax.models.mesh import make_mesh
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import (
    Completions,
    LanguageModel,
    Session,
    chunks,
    numbers_of,
    width_of,
)
from irl_jax.types import InputError

TEXTS = [f"It is {word} and {other}." for word in ("good", "bad") for other in ("old", "new")] * 5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LanguageModel:
    """Random weights, scaled so that tokens are far from equally likely."""
    tokenizer = Tokenizer.train_sentencepiece(TEXTS, 300, tmp_path_factory.mktemp("tokenizer"))
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1,
        head_dim=4, d_ff=8, max_positions=32,
    )  # fmt: skip
    params = jax.tree.map(lambda x: 3 * x, init_params(config, jax.random.key(0)))
    return LanguageModel(config, params, tokenizer)


@pytest.fixture(scope="module")
def prompts(model):
    """Five prompts of different lengths."""
    encoder = model.encoder(max_prompt=16, max_completion=8)
    return encoder.prompts(PromptRecord("It is" + " old" * i, {}, f"x:{i}") for i in range(5))


@pytest.fixture(scope="module")
def session(model, prompts) -> Session:
    return Session.create(
        model,
        make_mesh(1),
        prompt_width=width_of(prompts),
        max_new_tokens=6,
        sampling=Sampling(temperature=0.7),
    )


@pytest.fixture(scope="module")
def other(session):
    """Parameters of another policy than the reference."""
    return jax.tree.map(lambda x: 1.1 * x, session.model.params)


def ask(session, params, prompts, size=4, **options) -> Completions:
    options = {"advance": lambda *_: None, **options}
    key = jax.random.key(3)
    return session.respond(params, prompts, key, completions=3, batch_size=size, **options)


@pytest.fixture(scope="module")
def answers(session, other, prompts) -> Completions:
    measure = lambda group, texts: {
        "letters": np.array([[len(text) for text in row] for row in texts]),
        "features": session.embed(group, 1),
    }
    return ask(session, other, prompts, measure=measure)


def test_what_is_known_of_completions(session, other, prompts, answers):
    """Log-probs, features and texts again, prompt by prompt, without a session."""
    config, decode = session.model.config, session.model.tokenizer.decode
    first = jax.tree.map(lambda x: x[:1], session.model.params["layers"])
    one = {**session.model.params, "layers": first}
    for i, prompt in enumerate(prompts):
        context, action = session.collate([prompt]), jnp.asarray(answers.action[i : i + 1])
        mask = answers.mask[i]
        for params, found in ((other, answers.logp), (session.model.params, answers.ref_logp)):
            logp = completion_logp(config, params, context, action, temperature=0.7)[0]
            np.testing.assert_allclose(found[i][mask], logp[mask], rtol=1e-3, atol=1e-4)
        states = completion_hidden(replace(config, n_layers=1), one, context, action)[0]
        for k in range(3):
            mean = np.asarray(states[k])[mask[k]].mean(0)
            np.testing.assert_allclose(answers.values["features"][i, k], mean, rtol=1e-3, atol=1e-4)
            assert answers.text[i][k] == decode(answers.action[i, k][mask[k]].tolist())
            assert answers.values["letters"][i, k] == len(answers.text[i][k])
    assert answers.length == answers.mask.sum() / 15
    ends = np.take_along_axis(answers.action, answers.mask.sum(-1)[..., None] - 1, -1)[..., 0]
    np.testing.assert_array_equal(ends == session.model.tokenizer.eos_id, answers.terminated)


@pytest.mark.parametrize("size", [1, 2])
def test_answers_do_not_depend_on_the_size_of_their_batches(size, session, other, prompts, answers):
    done = []
    found = ask(session, other, prompts, size, advance=lambda count, _: done.append(count))
    assert done == [*range(size, 5, size), 5]
    assert found.text == answers.text and len({text for row in found.text for text in row}) > 3
    for name in ("action", "mask", "terminated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(answers, name))
    np.testing.assert_allclose(found.logp, answers.logp, atol=1e-4)
    np.testing.assert_allclose(found.ref_logp, answers.ref_logp, atol=1e-4)


def test_the_reference_is_its_own_reference_and_may_be_left_out(session, other, prompts):
    found = ask(session, session.model.params, prompts)
    np.testing.assert_array_equal(found.logp, found.ref_logp)
    assert np.isnan(ask(session, other, prompts, reference=False).ref_logp).all()


def test_completions_are_kept(answers, tmp_path):
    answers.save(tmp_path / "answers.npz")
    found = Completions.load(tmp_path / "answers.npz")
    part, again = answers.part(slice(1, 3)), found.part(slice(1, 3))
    assert found.text == answers.text and part.text == again.text == answers.text[1:3]
    for name in ("action", "mask", "terminated", "logp", "ref_logp"):
        np.testing.assert_array_equal(getattr(found, name), getattr(answers, name))
        np.testing.assert_array_equal(getattr(again, name), getattr(answers, name)[1:3])
    assert found.values.keys() == {"letters", "features"}
    for name, value in answers.values.items():
        np.testing.assert_array_equal(found.values[name], value)
        np.testing.assert_array_equal(again.values[name], value[1:3])


def test_files_that_are_no_completions(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"broken\.npz: damaged .*; remove it"):
        Completions.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "old.npz", text=[["a"]], action=[[[1]]], logp=[[[0.0]]], mask=[[[True]]])
    with pytest.raises(InputError, match=r"old\.npz: has no ref_logp, terminated; remove it"):
        Completions.load(tmp_path / "old.npz")


def test_rows_of_batches():
    assert chunks([1, 2, 3], 2) == [(2, [1, 2]), (1, [3, None])]
    assert chunks([], 2) == []
    assert numbers_of(1, 2).tolist() == [2, 3]
