"""The KL of a policy to the model it started from, on the tiny model."""

import io

import jax
import pytest

from irl_jax.data.jsonl import PromptRecord
from irl_jax.eval.kl import unmoved
from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.movement import policy_kl
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session
from irl_jax.train.progress import Progress
from irl_jax.train.shard import place


@pytest.fixture(scope="module")
def measured(tiny_model_dir, tmp_path_factory):
    """`policy_kl` on nine prompts, four at a time, and the model."""
    with Progress(io.StringIO()) as progress:
        model = load_language_model(
            str(tiny_model_dir), tmp_path_factory.mktemp("run"), seed=0, dtype="float32",
            progress=progress,
        )  # fmt: skip
    mesh = make_mesh(1)
    session = Session.create(model, mesh, prompt_width=24, max_new_tokens=8, sampling=Sampling())
    encoder = model.encoder(max_prompt=24, max_completion=8)
    records = [PromptRecord(prompt_of(t), {}, f"topic {i}") for i, t in enumerate(topics(9, 0))]
    prompts = encoder.prompts(records)
    done = []

    def measure(params):
        done.clear()
        advance = lambda count, _: done.append(count)
        found = session.respond(
            place(mesh, params, RULES), prompts, jax.random.key(0),
            completions=4, batch_size=4, advance=advance,
        )  # fmt: skip
        assert done == [4, 8, 9]
        return policy_kl(found)

    return measure, model


def test_of_the_model_itself_it_is_0(measured):
    measure, model = measured
    assert "the policy has not moved" in unmoved(measure(model.params))


def test_of_a_sharper_policy_it_is_not(measured):
    """Logits eight times as large: the likeliest token, nearly always."""
    measure, model = measured
    norm = {"scale": 8 * model.params["final_norm"]["scale"]}
    assert unmoved(measure({**model.params, "final_norm": norm})) == ""
