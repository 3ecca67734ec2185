"""Demonstrations against samples, on a decoder: SPIN and online IQ-Learn, in float64 by hand."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.losses.direct import dpo
from irl_jax.losses.soft_q import iq_learn_online
from irl_jax.models.decoder import init_params
from irl_jax.models.logprob import completion_logp, completion_q
from irl_jax.models.lora import init_lora
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.against_samples import (
    meet,
    online_soft_q_objective,
    spin_objective,
    with_opponent,
)
from irl_jax.train.objectives import lora
from irl_jax.train.state import init_state, joined
from irl_jax.train.step import make_train_step, side_by_side
from irl_jax.types import InputError, Loss
from tests.train.cases import CONFIG
from tests.train.test_adversarial import group_of

ADAPT = lora(2.0)
TEMPERATURE = 0.8
SPIN = spin_objective(
    CONFIG, ADAPT, partial(dpo, beta=0.3), sampling=Sampling(temperature=TEMPERATURE)
)


@pytest.fixture(scope="module")
def model():
    keys = jax.random.split(jax.random.key(0), 2)
    base = init_params(CONFIG, keys[0])
    return base, jax.tree.map(lambda x: x + 0.05, init_lora(keys[1], base, 2, "attn|mlp"))


@jax.jit
def spin(params, group, base):
    both = jax.value_and_grad(lambda p: SPIN(p, group, jax.random.key(0), base).mean)(params)
    found = SPIN(params, group, jax.random.key(0), base)
    logp = completion_logp(
        CONFIG, ADAPT(params, base), group.context, group.action, temperature=TEMPERATURE
    )
    return *both, found, logp


def test_spin_prefers_the_demonstration_to_each_sample(model):
    base, params = model
    group = group_of()
    loss, _, found, logp = spin(params, group, base)
    logp = np.asarray(logp, np.float64)
    total = []
    for b in range(2):
        ratio = [
            sum(logp[b, k, t] - np.float64(group.logp[b, k, t]) for t in range(4)
                if group.mask[b, k, t])
            for k in range(3)
        ]  # fmt: skip
        total += [np.log1p(np.exp(-0.3 * (ratio[2] - ratio[k]))) for k in (0, 1)]
    assert float(loss) == pytest.approx(np.mean(total), rel=1e-5)
    assert float(found.total) == pytest.approx(np.sum(total), rel=1e-5)
    value, weight = found.metrics["demonstration_nll"]
    shown = group.mask[:, 2]
    assert float(value / weight) == pytest.approx(-logp[:, 2][shown].mean(), rel=1e-5)
    garbage = replace(
        group,
        logp=np.where(group.mask, group.logp, np.nan),
        action=np.where(group.mask, group.action, 0),
    )
    again, slope, _, _ = spin(params, garbage, base)
    assert float(again) == pytest.approx(float(loss), rel=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))


def test_spin_begins_at_log_2_and_rests_with_its_own_samples(model):
    """Where the policy is the opponent each pair costs log 2; equal completions teach nothing."""
    base, params = model
    group = group_of()
    own = replace(group, logp=spin(params, group, base)[3])
    assert float(spin(params, own, base)[0]) == pytest.approx(np.log(2), rel=1e-5)
    same = lambda x: np.broadcast_to(x[:, :1], x.shape)
    alike = replace(group, action=same(group.action), mask=same(group.mask), logp=same(group.logp))
    assert float(optax.tree.norm(spin(params, alike, base)[1])) < 1e-5
    assert float(optax.tree.norm(spin(params, group, base)[1])) > 1e-2


def test_a_truncated_opponent_is_refused():
    with pytest.raises(InputError, match="sampling"):
        spin_objective(CONFIG, ADAPT, partial(dpo, beta=0.3), sampling=Sampling(top_k=4))


def test_the_opponent_becomes_the_policy_after_so_many_updates():
    """And no sooner; it is not trained, and its old self stays in between."""
    objective = lambda params, batch, key: Loss(((params - batch) ** 2).sum(), jnp.ones(()), {})
    tx = optax.sgd(0.1)
    key = jax.random.key(0)
    state = meet(joined(key, policy=init_state(jnp.zeros(2), tx, key)))
    assert set(state.params) == {"policy", "opponent"} and set(state.opt_state) == {"policy"}
    step = jax.jit(with_opponent(side_by_side(policy=make_train_step(objective, tx)), every=3))
    policies, opponents = [], []
    for _ in range(7):
        state, metrics = step(state, {"policy": jnp.array([1.0, 2.0])})
        policies.append(np.asarray(state.params["policy"]))
        opponents.append(np.asarray(state.params["opponent"]))
    expected = [np.array([1.0, 2.0]) * (1 - 0.8 ** (n + 1)) for n in range(7)]
    np.testing.assert_allclose(policies, expected, rtol=1e-6)
    start = np.zeros(2)
    wanted = [start, start, *[policies[2]] * 3, *[policies[5]] * 2]
    np.testing.assert_array_equal(opponents, wanted)
    assert int(state.step) == 7 and metrics["grad_norm"] > 0


@partial(jax.jit, static_argnames=("alpha", "discount"))
def soft(params, group, base, *, alpha, discount):
    objective = online_soft_q_objective(
        CONFIG, ADAPT, partial(iq_learn_online, alpha=alpha), discount=discount
    )
    total = lambda p: objective(p, group, jax.random.key(0), base).total
    loss, slope = jax.value_and_grad(total)(params)
    q, value = completion_q(CONFIG, ADAPT(params, base), group.context, group.action)
    return loss, slope, objective(params, group, jax.random.key(0), base), q, value


def test_one_soft_q_of_demonstrations_and_samples(model):
    base, params = model
    group = group_of()
    loss, _, found, q, value = soft(params, group, base, alpha=2.0, discount=0.9)
    q, value = (np.asarray(x, np.float64) for x in (q, value))
    total, weight, rewards = 0.0, 0.0, {True: [], False: []}
    for b in range(2):
        for k in range(3):
            length, shown = int(group.mask[b, k].sum()), k == 2
            own = 1.0 if shown else 0.5
            for t in range(length):
                after = 0.9 * value[b, k, t + 1] if t + 1 < length else 0.0
                r = q[b, k, t] - after
                total += own * (value[b, k, t] - after + r**2 / 8.0 - 2.0 * shown * r)
                weight += own
                rewards[shown].append(r)
    assert float(loss) == pytest.approx(total, rel=1e-4)
    assert float(found.weight) == pytest.approx(weight, rel=1e-6)
    for name, shown in (("demonstration", True), ("policy", False)):
        said, count = found.metrics[f"token_reward_{name}"]
        assert float(said / count) == pytest.approx(np.mean(rewards[shown]), rel=1e-4)
    said, count = found.metrics["demonstration_nll"]
    shown = (value - q)[:, 2][group.mask[:, 2]]
    assert float(said / count) == pytest.approx(shown.mean(), rel=1e-4)


def test_without_a_penalty_the_values_telescope_to_likelihood(model):
    """γ = 1, α without end: V of the prompt is on both sides, whatever the lengths: 2 · NLL."""
    base, params = model
    group = group_of()
    loss, slope, _, q, value = soft(params, group, base, alpha=1e9, discount=1.0)
    nll = np.where(group.mask[:, 2], np.asarray(value - q, np.float64)[:, 2], 0.0).sum()
    assert float(loss) == pytest.approx(2.0 * nll, rel=1e-4)

    def likelihood(p):
        logp = completion_logp(CONFIG, ADAPT(p, base), group.context, group.action)
        return -2.0 * jnp.where(group.mask[:, 2], logp[:, 2], 0.0).sum()

    for x, y in zip(
        *map(jax.tree.leaves, (slope, jax.jit(jax.grad(likelihood))(params))), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
