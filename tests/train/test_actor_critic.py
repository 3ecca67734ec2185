"""PPO on a decoder; the oracles put every completion alone behind a copy of its prompt."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.dynamics.returns import returns
from irl_jax.dynamics.shaping import kl_penalised
from irl_jax.losses.policy import ppo
from irl_jax.losses.value import clipped_value
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.actor_critic import kl_controlled, ppo_objective, valued, values
from irl_jax.train.objectives import PolicyBatch, full, policy_objective
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import Group, InputError, Loss
from tests.models.cases import (
    CONFIG,
    assert_near,
    completions,
    context,
    joined,
    random_params,
    run,
)

SAMPLING = Sampling(0.8)
HEAD = {"kernel": jnp.float32(np.cos(np.arange(CONFIG.d_model))), "bias": jnp.float32(0.3)}
SEPARATE = {
    "policy": random_params(CONFIG, 1),
    "critic": {"decoder": random_params(CONFIG, 2), "head": HEAD},
}
SHARED = {"policy": SEPARATE["policy"], "critic": {"head": HEAD}}
value = jax.jit(partial(values, CONFIG, adapt=full))


def near(seed, shape):
    return jnp.float32(np.random.default_rng(seed).normal(-1.5, 0.7, shape))


@pytest.fixture(scope="module")
def batch():
    action, mask = completions()
    reward = jnp.float32(np.random.default_rng(0).normal(size=mask.shape[:2]))
    group = Group(context(), action, mask, near(1, mask.shape), reward, reward > 0)
    return valued(group, 0.3 * near(2, mask.shape), near(3, mask.shape), beta=0.1)


@pytest.mark.parametrize("params", [SEPARATE, SHARED], ids=["separate", "shared"])
def test_a_value_is_read_where_its_token_is_predicted(params, batch):
    group = batch.group
    got = value(params, None, group)
    decoder = params["critic"].get("decoder", params["policy"])
    for b, k, prompt, rest in joined(group.context, group.action, group.mask):
        if len(rest):
            tokens = jnp.asarray(np.concatenate([prompt, rest]))[None]
            tokens = jnp.pad(tokens, ((0, 0), (0, 9 - tokens.shape[1])))
            hidden = run(CONFIG, decoder, tokens)[0][0]
            state = hidden[len(prompt) - 1 : len(prompt) + len(rest) - 1]
            assert_near(got[b, k, : len(rest)], state @ HEAD["kernel"] + HEAD["bias"], 1e-4)


def test_advantages_and_targets(batch):
    """With λ = 1 the target is the penalised return, whatever the critic says."""
    group, mask = batch.group, batch.group.mask
    reward = kl_penalised(group.reward, group.logp, batch.ref_logp, mask, beta=0.1)
    monte_carlo = valued(group, batch.old_value, batch.ref_logp, beta=0.1, gae_lambda=1.0)
    to_go = returns(reward, mask, discount=1.0)
    np.testing.assert_allclose(monte_carlo.target, to_go, atol=1e-5)
    error = np.asarray(to_go - batch.old_value)[np.asarray(mask)]
    advantage = np.asarray(monte_carlo.advantage)
    np.testing.assert_allclose(
        advantage[np.asarray(mask)], (error - error.mean()) / error.std(), rtol=1e-3, atol=1e-5
    )
    assert not advantage[~np.asarray(mask)].any()


@pytest.mark.parametrize("params", [SEPARATE, SHARED], ids=["separate", "shared"])
def test_the_objective_is_the_surrogate_and_half_the_error_of_the_critic(params, batch):
    options = {"clip": 0.2, "entropy": 0.01}
    objective = ppo_objective(
        CONFIG, full, sampling=SAMPLING, value_clip=0.2, value_weight=0.5, **options
    )
    policy = policy_objective(CONFIG, full, partial(ppo, **options), sampling=SAMPLING)
    scored = PolicyBatch(batch.group, batch.advantage, batch.ref_logp)
    surrogate = jax.jit(policy)(params["policy"], scored, None, None)
    arrays = {"target": batch.target, "old_value": batch.old_value}
    critic = clipped_value(value(params, None, batch.group), batch.group, clip=0.2, **arrays)
    both = jax.jit(objective)(params, batch, None, None)
    assert both.total == pytest.approx(float(surrogate.total + 0.5 * critic.total), rel=1e-4)
    assert both.weight == surrogate.weight == batch.group.mask.sum()
    assert both.metrics["value_loss"][0] == pytest.approx(float(critic.total), rel=1e-4)
    assert both.metrics["kl"][0] == pytest.approx(float(surrogate.metrics["kl"][0]), rel=1e-4)


def test_several_updates_take_a_valued_group(batch):
    objective = ppo_objective(
        CONFIG, full, sampling=SAMPLING, clip=0.2, value_clip=0.2, value_weight=0.5
    )
    step = minibatch_epochs(make_train_step(objective, optax.adam(1e-3)), epochs=2, minibatches=3)
    state = init_state(SHARED, optax.adam(1e-3), jax.random.key(0))
    after, metrics = jax.eval_shape(step, state, batch, None)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"kl", "clip_fraction", "value_error", "value_loss"} <= metrics.keys()


def test_completions_drawn_from_a_truncated_policy_are_refused():
    for sampling, message in (
        (Sampling(0.0), r"^sampling\.temperature: expected a number in \[1e-06"),
        (Sampling(1.0, top_p=0.9), r"^sampling: top_k = 0, top_p = 0\.9: the whole policy has no"),
    ):
        with pytest.raises(InputError, match=message):
            policy_objective(CONFIG, full, ppo, sampling=sampling)


def test_the_controlled_beta_is_part_of_the_state():
    """The KL is 1/β here, so that β comes to 1/target; Adam does not move it."""

    def objective(params, batch, key):
        kl = 1 / jax.lax.stop_gradient(params["beta"])
        return Loss(jnp.sum(params["w"] * batch), jnp.float32(1), {"kl": (kl, jnp.float32(1))})

    tx = optax.adamw(0.1, weight_decay=0.5)
    step = jax.jit(kl_controlled(make_train_step(objective, tx), target=4.0, gain=0.5))
    state = init_state({"w": jnp.ones(2), "beta": jnp.float32(1.0)}, tx, jax.random.key(0))
    state, metrics = step(state, jnp.ones(2))
    assert metrics["beta"] == 1
    assert state.params["beta"] == pytest.approx(0.9)  # the error of −¾ is cut to −0.2
    for _ in range(60):
        state, metrics = step(state, jnp.ones(2))
    assert state.params["beta"] == pytest.approx(0.25, rel=1e-3)
