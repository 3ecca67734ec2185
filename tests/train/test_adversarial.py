"""A discriminator on a decoder: what it says, learns and rewards, against NumPy in float64."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.adversarial import airl, raro
from irl_jax.losses.divergence import gail
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.models.decoder import init_params
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.logprob import completion_hidden
from irl_jax.models.lora import init_lora
from irl_jax.train.adversarial import (
    Discriminator,
    discriminator_objective,
    learned_rewards,
    log_ratios,
    policy_batch,
    rewards,
)
from irl_jax.train.objectives import lora
from irl_jax.types import Group, Prompt
from tests.train.cases import CONFIG

B, K, T = 2, 3, 4  # K completions, the last of which was demonstrated
ADAPT = lora(2.0)
KINDS = {
    "gail": Discriminator(binary_cross_entropy, partial(gail, b=0.25)),
    "airl": Discriminator(binary_cross_entropy, airl, policy=True),
    "r_airl": Discriminator(binary_cross_entropy, airl, tells="token", policy=True),
    "raro": Discriminator(bradley_terry, raro, tells="pair"),
}


def group_of(seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.array([[4, 2, 3], [1, 4, 2]])
    ids = lambda *shape: rng.integers(0, CONFIG.vocab_size, shape).astype(np.int32)
    return Group(
        context=Prompt(tokens=ids(B, 3), mask=np.ones((B, 3), bool)),
        action=ids(B, K, T),
        mask=np.arange(T) < lengths[..., None],
        logp=rng.normal(-1.0, 1.0, (B, K, T)).astype(np.float32),
        reward=np.zeros((B, K), np.float32),
        terminated=np.ones((B, K), bool),
    )


@pytest.fixture(scope="module")
def model():
    keys = jax.random.split(jax.random.key(0), 3)
    base = init_params(CONFIG, keys[0])
    adapter = init_lora(keys[1], base, 2, "attn|mlp")
    adapter = jax.tree.map(lambda x: x + 0.05, adapter)
    return base, {"decoder": adapter, "head": init_scalar_head(keys[2], CONFIG.d_model)}


@pytest.fixture(scope="module")
def values(model):
    """What the head says at every token, f64[B, K, T]."""
    base, params = model
    group = group_of()
    hidden = jax.jit(partial(completion_hidden, CONFIG))(
        ADAPT(params["decoder"], base), group.context, group.action
    )
    head = jax.tree.map(np.float64, params["head"])
    return np.asarray(hidden, np.float64) @ head["kernel"] + head["bias"]


def expected(kind, values, group):
    """v, f64[B, K] or f64[B, K, T]."""
    logp = np.where(group.mask, group.logp, 0.0).astype(np.float64) * kind.policy
    if kind.tells == "token":
        return np.where(group.mask, values, 0.0) - logp
    last = group.mask.sum(-1) - 1
    return np.take_along_axis(values, last[..., None], -1)[..., 0] - logp.sum(-1)


SIGMA = lambda x: 1.0 / (1.0 + np.exp(-x))


def cost(kind, v, mask):
    """Mean of each side, halved; or of pairs."""
    if kind.tells == "pair":
        return -np.log(SIGMA(v[:, -1:] - v[:, :-1])).mean()
    shown, own = (-np.log(SIGMA(v[:, -1])), -np.log(SIGMA(-v[:, :-1])))
    if kind.tells == "token":
        shown, own = shown[mask[:, -1]], own[mask[:, :-1]]
    return 0.5 * shown.mean() + 0.5 * own.mean()


@pytest.mark.parametrize("name", KINDS)
def test_what_it_says_learns_and_rewards(name, model, values):
    kind, group, (base, params) = KINDS[name], group_of(), model
    v = expected(kind, values, group)
    say = jax.jit(partial(log_ratios, CONFIG, kind, adapt=ADAPT))
    np.testing.assert_allclose(say(params, base, group), v, rtol=1e-4, atol=1e-4)
    garbage = replace(
        group,
        logp=np.where(group.mask, group.logp, np.nan),
        action=np.where(group.mask, group.action, 0),
    )
    np.testing.assert_allclose(say(params, base, garbage), v, rtol=1e-4, atol=1e-4)

    objective = discriminator_objective(CONFIG, kind, adapt=ADAPT)
    total = lambda params, group: objective(params, group, jax.random.key(0), base).mean
    loss, slope = jax.jit(jax.value_and_grad(total))(params, group)
    np.testing.assert_allclose(loss, cost(kind, v, group.mask), rtol=1e-4)
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(slope["decoder"]))

    found, metrics = rewards(kind, jnp.asarray(v, jnp.float32), group)
    ahead = v - v[:, -1:] if name == "raro" else v
    by_hand = {
        "gail": lambda v: 0.25 * np.log(SIGMA(v)) - 0.75 * np.log(1.0 - SIGMA(v)),
        "raro": SIGMA,
    }.get(name, lambda v: v)(ahead)
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)
    whole, total = v, by_hand
    if kind.tells == "token":
        whole, total = v.sum(-1) / group.mask.sum(-1), by_hand.sum(-1)
    np.testing.assert_allclose(metrics["told"], (whole[:, -1:] > whole[:, :-1]).mean())
    np.testing.assert_allclose(metrics["reward_policy"], total[:, :-1].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["reward_demonstration"], total[:, -1].mean(), rtol=1e-4)


def test_a_policy_learns_from_its_own_completions():
    group, rng = group_of(), np.random.default_rng(1)
    r = rng.normal(size=(B, K)).astype(np.float32)
    batch = policy_batch(KINDS["gail"], r, group, "given")
    own = r[:, : K - 1].astype(np.float64)
    np.testing.assert_allclose(batch.advantage, own - own.mean(1, keepdims=True), rtol=1e-4)
    np.testing.assert_array_equal(batch.group.action, group.action[:, : K - 1])
    assert batch.ref_logp == "given"
    r = np.where(group.mask, rng.normal(size=(B, K, T)), 0.0).astype(np.float32)
    found = policy_batch(KINDS["r_airl"], r, group).advantage
    own, mask = r[:, : K - 1].astype(np.float64), group.mask[:, : K - 1]
    to_go = own[..., ::-1].cumsum(-1)[..., ::-1]
    centred = to_go - to_go[mask].mean()
    expected = np.where(mask, centred / np.sqrt((centred[mask] ** 2).mean()), 0.0)
    # whether the variance is the sample's is not the point: the order and the ratios are
    scale = (found * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(found, scale * expected, rtol=1e-4, atol=1e-5)
    assert scale == pytest.approx(1.0, rel=0.1)


def test_the_learned_reward_has_no_policy_in_it(model, values):
    group, (base, params) = group_of(), model
    for name in ("airl", "r_airl"):
        kind = replace(KINDS[name], policy=False)
        own = jax.jit(partial(learned_rewards, CONFIG, KINDS[name], adapt=ADAPT))
        found = own(params, base, group.context, group.action, group.mask)
        v = expected(kind, values, group)
        np.testing.assert_allclose(found, v.sum(-1) if name == "r_airl" else v, rtol=1e-4)
