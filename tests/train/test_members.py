"""A member of an ensemble is updated as if it were alone."""

import jax
import numpy as np
import optax
import pytest

from irl_jax.losses.table import look_up
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.lora import init_lora
from irl_jax.recipes.forms import reward_objective
from irl_jax.train.members import for_members, init_members, per_member
from irl_jax.train.objectives import lora, preference_rewards
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, Preference
from tests.models.cases import CONFIG, assert_trees_near, completions, context, random_params

MEMBERS, STEPS, SCALE = 3, 4, 0.7


@pytest.fixture(scope="module")
def reference():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def batch():
    action, mask = completions()
    weight = np.float32([1.0, 0.5, 2.0])
    return Preference(context(), action, mask, np.zeros(3, np.float32), weight)


def initial(reference):
    def init(key):
        first, second = jax.random.split(key)
        adapter = init_lora(first, reference, 2, "attn|mlp")
        return {"decoder": adapter, "head": init_scalar_head(second, CONFIG.d_model)}

    return init


def optimizer():
    """With memory, and linear in the clipped gradient: its rounding is not made a whole step."""
    return optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(1.0, momentum=0.9))


def train(step, tx, params, batch, reference):
    state = init_state(params, tx, jax.random.key(9))
    rows = []
    for _ in range(STEPS):
        state, metrics = step(state, batch, reference)
        rows.append({name: float(value) for name, value in metrics.items()})
    return state.params, rows


@pytest.fixture(scope="module")
def trained(reference, batch):
    """All members at once, and each alone: parameters, metrics."""
    options = {"label_smoothing": 0.1, "centering": 0.01}
    objective = reward_objective(look_up("bradley_terry"), options, CONFIG, lora(SCALE))
    init = jax.jit(initial(reference))
    params = init_members(init, jax.random.key(5), MEMBERS)
    tx = per_member(optimizer())
    step = jax.jit(make_train_step(for_members(objective), tx))
    together = train(step, tx, params, batch, reference)
    tx = optimizer()
    step = jax.jit(make_train_step(objective, tx))
    keys = jax.random.split(jax.random.key(5), MEMBERS)
    alone = [train(step, tx, init(key), batch, reference) for key in keys]
    return together, alone


def test_a_member_learns_what_it_learns_alone(trained):
    (together, _), alone = trained
    for k, (params, _) in enumerate(alone):
        assert_trees_near(jax.tree.map(lambda x, k=k: x[k], together), params, 1e-4)


def test_metrics_are_sums_and_means_over_members(trained):
    (_, rows), alone = trained
    for step, row in enumerate(rows):
        losses = [each[step]["loss"] for _, each in alone]
        assert row["loss"] == pytest.approx(sum(losses), rel=1e-5)
        assert row["member_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        accuracy = [each[step]["accuracy"] for _, each in alone]
        assert row["accuracy"] == pytest.approx(np.mean(accuracy), rel=1e-5)
    assert rows[-1]["member_loss"] < rows[0]["member_loss"]


def test_members_disagree(trained, reference, batch):
    (together, _), _ = trained
    rewards = lambda params: preference_rewards(
        CONFIG, params, reference, batch.context, batch.action, batch.mask, adapt=lora(SCALE)
    )
    reward = jax.jit(jax.vmap(rewards))(together)
    assert reward.shape == (MEMBERS, 3, 2)
    spread = np.asarray(reward.std(0))[np.asarray(batch.mask).any(-1)]
    assert spread.min() > 1e-3


def test_no_member_is_named():
    with pytest.raises(InputError, match="members: expected a number in"):
        init_members(lambda key: key, jax.random.key(0), 0)
