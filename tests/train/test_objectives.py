"""A step's gradient is that of the loss on log-probs of whole sequences, merged and unshared.

The oracle shares no path with the objectives: every completion is put behind a copy of
its prompt, right-padded, and goes through the decoder alone; a LoRA is merged first.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.dynamics.advantages import optimal_token_baseline
from irl_jax.losses.demonstration import nll
from irl_jax.losses.direct import dpo
from irl_jax.losses.link import logistic, smooth
from irl_jax.losses.policy import grpo
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.regularisation import grm_sft
from irl_jax.losses.soft_q import iq_learn_lm
from irl_jax.losses.table import look_up
from irl_jax.models.decoder import forward, logits
from irl_jax.models.logprob import completion_logp_collision
from irl_jax.models.lora import init_lora, merge
from irl_jax.recipes.forms import online_method, reward_objective
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import (
    PolicyBatch,
    direct_objective,
    full,
    lora,
    policy_objective,
    sft_objective,
    soft_q_objective,
)
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Demonstration, Group, Preference, PyTree
from tests.models.cases import (
    COMPLETIONS,
    CONFIG,
    assert_trees_near,
    completions,
    context,
    joined,
    random_params,
)

SCALE, BETA, TEMPERATURE = 0.7, 0.5, 0.8
B, K, T = 3, 2, 4
ROWS, LENGTH = B * K, 9  # sequences alone


@pytest.fixture(scope="module")
def reference():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def adapter(reference):
    start = init_lora(jax.random.key(0), reference, 2, "attn|mlp")
    return jax.tree.map(
        lambda x: x + np.float32(0.15) * np.cos(np.arange(x.size)).reshape(x.shape), start
    )


@functools.partial(jax.jit, static_argnames="adapt")
def score_rows(adapt, trained, reference, tokens, temperature):
    """log p(tokens[t] | tokens[<t]) and hidden states of plain rows, f[R, S] and f[R, S, D]."""
    decoder = merge(reference, trained, SCALE) if adapt == "lora" else trained
    hidden, _ = forward(CONFIG, decoder, tokens)
    table = jax.nn.log_softmax(logits(CONFIG, decoder, hidden[:, :-1]) / temperature)
    logp = jnp.take_along_axis(table, tokens[:, 1:, None], -1)[..., 0]
    return jnp.pad(logp, ((0, 0), (1, 0))), hidden


@functools.partial(jax.jit, static_argnames="adapt")
def pull_back(adapt, trained, reference, tokens, temperature, cotangents):
    """The gradient of what was trained, from those of the log-probs and hidden states."""
    score = lambda x: score_rows(adapt, x, reference, tokens, temperature)
    return jax.vjp(score, trained)[1](cotangents)[0]


@dataclass(frozen=True)
class Case:
    """An objective, a batch for it, and its loss by the plain path."""

    objective: Callable  # adapt -> Objective
    batch: PyTree
    tokens: np.ndarray  # i32[R, S], every sequence alone, right-padded
    loss: Callable  # (logp f32[R, S], hidden f32[R, S, D], ref_logp f32[R, S], head) -> Loss
    head: bool = False
    temperature: float = 1.0


def whole_sequences():
    """Prompts, their completions, and a copy of each prompt before each completion."""
    prompt, (action, mask) = context(), completions()
    tokens, place = np.zeros((ROWS, LENGTH), np.int32), np.zeros((B, K, T), int)
    for b, k, start, rest in joined(prompt, action, mask):
        both = np.concatenate([start, rest])
        tokens[b * K + k, : len(both)] = both
        place[b, k] = np.minimum(len(start) + np.arange(T), LENGTH - 1)
    row = np.arange(ROWS).reshape(B, K, 1)
    return prompt, action, mask, tokens, lambda x: x[row, place]


def preference():
    prompt, action, mask, tokens, at = whole_sequences()
    margin, weight = jnp.array([0.0, 0.3, -0.2]), jnp.array([1.0, 0.5, 2.0])
    return Preference(prompt, action, mask, margin, weight), tokens, at


def sft_case():
    """Two packed rows of two sequences each."""
    tokens = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (2, 12)).astype(np.int32)
    segment = np.array([[1] * 7 + [2] * 5, [1] * 4 + [2] * 6 + [0] * 2], np.int32)
    mask = np.zeros((2, 12), bool)
    alone, alone_mask = np.zeros((ROWS, LENGTH), np.int32), np.zeros((ROWS, LENGTH), bool)
    parts = [(0, 0, 7, 3), (0, 7, 12, 2), (1, 0, 4, 1), (1, 4, 10, 4)]  # row, from, to, prompt
    for i, (row, start, stop, prompt) in enumerate(parts):
        mask[row, start + prompt : stop] = True
        alone[i, : stop - start] = tokens[row, start:stop]
        alone_mask[i, prompt : stop - start] = True
    plain = Demonstration(alone, alone_mask, alone_mask.astype(np.int32))
    return Case(
        objective=lambda adapt: sft_objective(CONFIG, adapt),
        batch=Demonstration(tokens, mask, segment),
        tokens=alone,
        loss=lambda logp, hidden, ref_logp, head: nll(logp, plain),
    )


def dpo_case():
    batch, tokens, at = preference()
    loss = partial(dpo, beta=BETA, link=smooth(logistic, 0.1))
    return Case(
        objective=lambda adapt: direct_objective(CONFIG, adapt, loss),
        batch=batch,
        tokens=tokens,
        loss=lambda logp, hidden, ref_logp, head: loss(at(logp), at(ref_logp), batch),
    )


def reward_at(at, hidden, head):
    """The head's value at the last token of each completion, f32[B, K]; 0 where there is none."""
    value, lengths = at(hidden @ head["kernel"] + head["bias"]), np.array(COMPLETIONS)
    last = jnp.take_along_axis(value, np.maximum(lengths - 1, 0)[..., None], -1)[..., 0]
    return jnp.where(lengths > 0, last, 0.0)


def reward_case():
    batch, tokens, at = preference()
    options = {"label_smoothing": 0.1, "centering": 0.01}

    def loss(logp, hidden, ref_logp, head):
        return bradley_terry(reward_at(at, hidden, head), batch, **options)

    row = look_up("bradley_terry")
    objective = lambda adapt: reward_objective(row, options, CONFIG, adapt)
    return Case(objective, batch, tokens, loss, head=True)


def regularised_case():
    """Both heads pull on the decoder that they share."""
    batch, tokens, at = preference()
    options = {"alpha": 0.4, "beta": BETA}

    def loss(logp, hidden, ref_logp, head):
        return grm_sft(reward_at(at, hidden, head), at(logp), batch, **options)

    row = look_up("grm_sft")
    objective = lambda adapt: reward_objective(row, options, CONFIG, adapt)
    return Case(objective, batch, tokens, loss, head=True)


def grpo_case():
    """Behaviour and reference log-probs some way off, so that some tokens are clipped."""
    prompt, action, mask, tokens, at = whole_sequences()
    rng = np.random.default_rng(5)
    params = random_params(CONFIG)
    on_policy = at(score_rows("full", params, params, tokens, TEMPERATURE)[0])
    near = lambda: on_policy + rng.normal(0, 0.3, on_policy.shape).astype(np.float32)
    advantage, zeros = jnp.float32(rng.normal(size=(B, K))), jnp.zeros((B, K))
    group = Group(prompt, action, mask, near(), zeros, zeros > 0)
    batch = PolicyBatch(group, advantage, near())
    options = {"clip": (0.1, 0.3), "beta": BETA}

    def loss(logp, hidden, ref_logp, head):
        return grpo(at(logp), group, advantage=advantage, ref_logp=batch.ref_logp, **options)

    objective = lambda adapt: policy_objective(
        CONFIG, adapt, functools.partial(grpo, **options), sampling=Sampling(TEMPERATURE)
    )
    return Case(objective, batch, tokens, loss, temperature=TEMPERATURE)


CASES = {
    "sft": sft_case,
    "reward": reward_case,
    "regularised": regularised_case,
    "dpo": dpo_case,
    "grpo": grpo_case,
}
HEAD = {"kernel": jnp.float32(np.cos(np.arange(CONFIG.d_model))), "bias": jnp.float32(0.3)}


@pytest.mark.parametrize(("name", "adapt"), [*((name, "lora") for name in CASES), ("dpo", "full")])
def test_a_step_is_the_plain_gradient(name, adapt, reference, adapter):
    case = CASES[name]()
    trained = random_params(CONFIG, 1) if adapt == "full" else adapter
    plain = (reference, case.tokens, case.temperature)
    logp, hidden = score_rows(adapt, trained, *plain)
    ref_logp, _ = score_rows("full", reference, *plain)

    def mean(logp, hidden, head):
        loss = case.loss(logp, hidden, ref_logp, head)
        return loss.mean, loss

    gradient = jax.jit(jax.grad(mean, argnums=(0, 1, 2), has_aux=True))
    (*cotangents, head_gradient), loss = gradient(logp, hidden, HEAD)
    want = pull_back(adapt, trained, *plain, tuple(cotangents))
    params = trained
    if case.head:
        params, want = {"decoder": trained, "head": HEAD}, {"decoder": want, "head": head_gradient}

    tx = optax.sgd(1.0)  # subtracts the gradient
    step = jax.jit(make_train_step(case.objective(full if adapt == "full" else lora(SCALE)), tx))
    before = init_state(params, tx, jax.random.key(0))
    after, metrics = step(before, case.batch, reference)
    got = jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), before.params, after.params)
    assert_trees_near(got, want, 2e-4)
    np.testing.assert_allclose(metrics["loss"], loss.mean, rtol=1e-5)
    for metric, (total, weight) in loss.metrics.items():
        if metric != "tokens":  # a row
            np.testing.assert_allclose(metrics[metric], total / weight, rtol=1e-4, atol=1e-5)
    if name == "grpo":
        assert 0 < metrics["clip_fraction"] < 1


def test_sft_of_all_weights_needs_no_reference(reference):
    case = sft_case()
    tx = optax.sgd(1.0)
    step = make_train_step(case.objective(full), tx)
    state = init_state(reference, tx, jax.random.key(0))
    shapes = jax.eval_shape(step, state, case.batch)
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(state)


def test_soft_q_without_a_penalty_on_rewards_is_sft(reference):
    batch = sft_case().batch
    loss = partial(iq_learn_lm, lam=0.0, discount=1.0)
    both = {"sft": sft_objective(CONFIG), "iq_learn": soft_q_objective(CONFIG, full, loss)}

    @jax.jit
    def slopes(params):
        mean = lambda x, objective: objective(x, batch, None).mean
        return {name: jax.value_and_grad(mean)(params, each) for name, each in both.items()}

    out = slopes(reference)
    np.testing.assert_allclose(out["iq_learn"][0], out["sft"][0], rtol=1e-6)
    assert_trees_near(out["iq_learn"][1], out["sft"][1], 1e-5)


def test_the_token_baseline_reads_the_policy_at_the_temperature_of_its_samples(reference):
    twice = lambda x: jnp.concatenate([x, jnp.roll(x, 1, axis=0)], axis=1)  # of two, W cancels
    prompt, (action, mask) = context(), map(twice, completions())
    reward = jnp.arange(B * 2.0 * K).reshape(B, 2 * K) ** 2
    logp = jnp.where(mask, -1.0, 0.0)
    group = Group(prompt, action, mask, logp, reward, reward > 0)
    sampling = Sampling(temperature=TEMPERATURE)
    method = online_method(look_up("otb"), {"beta": 0.0}, sampling, 8)
    batch = method.batch(CONFIG, full, reference, None, group, None, None, None)
    _, collision = completion_logp_collision(
        CONFIG, reference, prompt, action, temperature=TEMPERATURE
    )
    to_go = jnp.where(mask, reward[..., None], 0.0)
    want = optimal_token_baseline(to_go, logp, collision, mask)
    np.testing.assert_allclose(batch.advantage, want, rtol=1e-4, atol=1e-5)
    _, other = completion_logp_collision(CONFIG, reference, prompt, action)
    apart = batch.advantage - optimal_token_baseline(to_go, logp, other, mask)
    assert np.abs(apart).max() > 1e-3


def test_the_reference_has_no_gradient(reference):
    case, params = dpo_case(), random_params(CONFIG, 1)
    total = lambda ref: case.objective(full)(params, case.batch, None, ref).total
    for x in jax.tree.leaves(jax.jit(jax.grad(total))(reference)):
        np.testing.assert_array_equal(x, 0.0)


def test_dpo_starts_at_log_2(reference):
    """A new LoRA is the reference: every implicit reward is 0."""
    start = init_lora(jax.random.key(0), reference, 2, "attn|mlp")
    objective = direct_objective(CONFIG, lora(SCALE), partial(dpo, beta=BETA))
    batch = dataclasses.replace(preference()[0], margin=jnp.zeros(B))
    loss = jax.jit(objective)(start, batch, None, reference)
    np.testing.assert_allclose(loss.mean, np.log(2), rtol=1e-6)
    total, weight = loss.metrics["reward_margin"]
    np.testing.assert_allclose(total / weight, 0.0, atol=1e-6)


def test_only_the_adapter_is_trained(reference, adapter):
    """The state and the optimizer hold nothing of the model."""
    tx = optax.adam(1e-2)
    step = make_train_step(dpo_case().objective(lora(SCALE)), tx)
    state = init_state(adapter, tx, jax.random.key(0))
    after, _ = jax.eval_shape(step, state, preference()[0], reference)
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    assert shapes(after.params) == shapes(adapter)
    assert shapes(after.opt_state[0].mu) == shapes(adapter)
