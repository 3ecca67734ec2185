"""Objectives of distillation, a LoRA against a deeper teacher, are the oracles' losses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.table import look_up
from irl_jax.models.lora import init_lora, merge
from irl_jax.recipes.forms import online_method
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import lora
from irl_jax.types import Group, InputError
from tests.models.cases import CONFIG, completions, context, joined, random_params
from tests.oracles import decoder, distillation

SCALE, TEMPERATURE = 0.7, 0.8
TEACHER = replace(CONFIG, n_layers=CONFIG.n_layers + 1)
SAMPLING = Sampling(temperature=TEMPERATURE)


@pytest.fixture(scope="module")
def case():
    """A reference, a LoRA on it, a teacher, and samples of the LoRA's policy."""
    reference, teacher = random_params(CONFIG), random_params(TEACHER, 1)
    start = init_lora(jax.random.key(0), reference, 2, "attn|mlp")
    adapter = jax.tree.map(
        lambda x: x + np.float32(0.15) * np.cos(np.arange(x.size)).reshape(x.shape), start
    )
    prompt, (action, mask) = context(), completions()
    policy = merge(reference, adapter, SCALE)
    logp = np.zeros(mask.shape)
    for (b, k), table, own in tables(CONFIG, policy, prompt, action, mask, TEMPERATURE):
        logp[b, k][: len(own)] = table[np.arange(len(own)), own]
    reward = jnp.zeros(mask.shape[:2])
    group = Group(prompt, action, mask, jnp.asarray(logp, jnp.float32), reward, reward == 0)
    return reference, adapter, policy, teacher, group


def tables(config, params, prompt, action, mask, temperature=1.0):
    """(row, k), log-probs of all symbols before each token f64[n, V], and its tokens i32[n]."""
    for b, k, start, own in joined(prompt, action, mask):
        scores = decoder.logits(config, params, np.concatenate([start, own]))
        yield (b, k), decoder.log_softmax(scores / temperature)[len(start) - 1 : -1], own


def loss_of(name, options, case):
    reference, adapter, _, teacher, group = case
    method = online_method(look_up(name), options, SAMPLING, 8, TEACHER)
    batch = method.batch(CONFIG, lora(SCALE), adapter, reference, group, None, None, None)
    objective = jax.jit(method.objective(CONFIG, lora(SCALE), None))
    return objective(adapter, batch, None, reference, teacher)


def assert_loss(loss, want):
    total, weight, metrics = want
    np.testing.assert_allclose(loss.total, total, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(loss.weight, weight)
    for metric, pair in metrics.items():
        np.testing.assert_allclose(loss.metrics[metric], pair, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_gkd(case, beta):
    """Of the policies at temperature 1, whatever the samples' was."""
    _, _, policy, teacher, group = case
    divergence = np.zeros(group.mask.shape)
    given = group.context, group.action, group.mask
    both = zip(tables(CONFIG, policy, *given), tables(TEACHER, teacher, *given), strict=True)
    for ((b, k), own, tokens), (_, theirs, _) in both:
        each = [distillation.generalised_jsd(p, q, beta) for p, q in zip(theirs, own, strict=True)]
        divergence[b, k][: len(tokens)] = each
    assert_loss(loss_of("gkd", {"beta": beta}, case), distillation.gkd(divergence, group))


@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_distil(case, discount):
    """At the temperature of the samples."""
    _, _, _, teacher, group = case
    given = group.context, group.action, group.mask
    theirs = np.zeros(group.mask.shape)
    for (b, k), table, own in tables(TEACHER, teacher, *given, TEMPERATURE):
        theirs[b, k][: len(own)] = table[np.arange(len(own)), own]
    logp = np.asarray(group.logp, np.float64)
    want = distillation.distil(logp, group, teacher_logp=theirs, discount=discount)
    assert_loss(loss_of("distil", {"discount": discount}, case), want)


def test_a_truncated_policy_is_refused():
    method = online_method(look_up("distil"), {"discount": 0.0}, Sampling(top_k=3), 8, TEACHER)
    with pytest.raises(InputError, match="top_k = 3"):
        method.objective(CONFIG, lora(SCALE), None)
