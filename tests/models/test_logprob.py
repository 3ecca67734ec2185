"""Log-probs equal those of full logits in float64; what is held and moved stays small."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from irl_jax.models import logprob
from irl_jax.models.logprob import (
    completion_certainty,
    completion_divergence,
    completion_hidden,
    completion_logp,
    completion_logp_collision,
    completion_q,
    sequence_logp,
    sequence_q,
    token_logp,
)
from irl_jax.types import InputError, Prompt
from tests.models.cases import (
    CONFIG,
    assert_near,
    assert_trees_near,
    completions,
    context,
    joined,
    random_params,
)
from tests.oracles import decoder as oracle
from tests.oracles.distillation import generalised_jsd

WIDE = dataclasses.replace(CONFIG, vocab_size=200)  # V much larger than anything else
score = jax.jit(completion_logp, static_argnums=0, static_argnames="temperature")
score_rows = jax.jit(sequence_logp, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def states():
    """Kernel f32[D, V], hidden f32[2, 3, 7, D], tokens i32[2, 3, 7]."""
    rng = np.random.default_rng(0)
    d, v = WIDE.d_model, WIDE.vocab_size
    kernel = rng.normal(0, 1, (d, v)).astype(np.float32)
    hidden = rng.normal(0, 1, (2, 3, 7, d)).astype(np.float32)
    return kernel, hidden, rng.integers(0, v, (2, 3, 7)).astype(np.int32)


def of_states(kernel, hidden, tokens, temperature=1.0):
    """`token_logp` as a function of arrays."""
    params = {"unembed": {"kernel": kernel}}
    return token_logp(WIDE, params, hidden, tokens, temperature=temperature)


def picked(kernel, hidden, tokens, temperature=1.0):
    """The same from all logits at once."""
    table = jax.nn.log_softmax(hidden @ kernel / temperature)
    return jnp.take_along_axis(table, tokens[..., None], -1)[..., 0]


@pytest.mark.parametrize("chunk", [1, 12, 13, 30, 512], ids="chunk-{}".format)
def test_chunks_do_not_show(states, monkeypatch, chunk):
    """6 rows of 7 columns, in chunks of 1, 2, 2, 5 and 7 columns; values and gradients."""
    monkeypatch.setattr(logprob, "CHUNK", chunk)
    kernel, hidden, tokens = states

    def gradient(function):
        weighed = lambda *x: (lambda y: (jnp.sum(y * jnp.cos(jnp.arange(7))), y))(
            function(*x, tokens, 0.7)
        )
        return jax.jit(jax.grad(weighed, argnums=(0, 1), has_aux=True))(kernel, hidden)

    got, want = gradient(of_states), gradient(picked)
    assert_trees_near(got, want)
    table = oracle.log_softmax(hidden.astype(np.float64) @ kernel / 0.7)
    assert_near(got[1], np.take_along_axis(table, tokens[..., None], -1)[..., 0])


def arrays(jaxpr):
    """Shapes of everything that a jaxpr computes, inner jaxprs included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from arrays(inner)


def test_logits_are_held_for_a_chunk_only(states, monkeypatch):
    monkeypatch.setattr(logprob, "CHUNK", 12)  # 2 of 7 columns
    gradient = lambda function: (
        jax.make_jaxpr(jax.grad(lambda *x: function(*x).sum(), argnums=(0, 1)))(
            *states[:2], states[2]
        ).jaxpr
    )
    rows = lambda shape: np.prod(shape[:-1]) if shape and shape[-1] == WIDE.vocab_size else 0
    assert max(map(rows, arrays(gradient(picked)))) == 6 * 7
    assert max(map(rows, arrays(gradient(of_states)))) == WIDE.d_model == 6 * 2


def test_every_device_projects_its_own_rows(states, monkeypatch):
    """No hidden state leaves its device, the kernel is gathered once; as on one device."""
    monkeypatch.setattr(logprob, "CHUNK", 4)
    kernel, hidden, tokens = (np.asarray(x) for x in states)
    hidden, tokens = np.tile(hidden, (4, 1, 1, 1)), np.tile(tokens, (4, 1, 1))
    want = picked(kernel, hidden, tokens)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    batch = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    cut = NamedSharding(mesh, PartitionSpec("fsdp"))
    placed = jax.device_put((kernel, hidden, tokens), (cut, batch, batch))
    with jax.set_mesh(mesh):
        compiled = jax.jit(of_states, out_shardings=batch).lower(*placed).compile()
    assert_near(compiled(*placed), want)
    inner, _, entry = compiled.as_text().partition("ENTRY")  # the loop over chunks is inside
    moves = r"= \w+\[([\d,]*)\]\S* (?:all-|collective-|reduce-)"
    sizes = lambda text: {np.prod([int(n) for n in x.split(",")]) for x in re.findall(moves, text)}
    assert kernel.size in sizes(entry)
    assert all(size <= tokens.size // 8 for size in sizes(inner) | sizes(entry) - {kernel.size})


def test_extreme_logits(states):
    kernel, hidden, tokens = states
    loss = lambda h: of_states(1e4 * kernel, h, tokens).sum()
    value, gradient = jax.jit(jax.value_and_grad(loss))(hidden)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-31, 1e-46, np.inf, np.nan, "1"])
def test_temperature_is_positive_and_finite(states, temperature):
    with pytest.raises(InputError, match=r"temperature: expected a number in \[1e-06, "):
        of_states(*states, temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_completions_are_the_oracle(params, temperature):
    prompt, (action, mask) = context(), completions()
    logp = score(CONFIG, params, prompt, action, temperature=temperature)
    assert logp.shape == action.shape and logp.dtype == jnp.float32
    for b, k, start, rest in joined(prompt, action, mask):
        both = np.concatenate([start, rest])
        want = oracle.sequence_logp(CONFIG, params, both, temperature)[len(start) - 1 :]
        assert_near(logp[b, k, : len(rest)], want)


def test_padding_is_not_read(params):
    prompt, (action, mask) = context(), completions()
    other = Prompt(jnp.where(prompt.mask, prompt.tokens, 7), prompt.mask)
    before = score(CONFIG, params, prompt, action)
    after = score(CONFIG, params, other, jnp.where(mask, action, 7))
    np.testing.assert_array_equal(before[mask], after[mask])


def test_completions_of_one_token(params):
    prompt, (action, _) = context(), completions()
    logp = score(CONFIG, params, prompt, action[..., :1])
    assert_near(logp, score(CONFIG, params, prompt, action)[..., :1])


def test_hidden_states_of_completions(params):
    prompt, (action, mask) = context(), completions()
    hidden = jax.jit(completion_hidden, static_argnums=0)(CONFIG, params, prompt, action)
    for b, k, start, rest in joined(prompt, action, mask):
        want = oracle.hidden(CONFIG, params, np.concatenate([start, rest]))[len(start) :]
        assert_near(hidden[b, k, : len(rest)], want)


def test_packed_sequences_are_the_oracle(params):
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 12)).astype(np.int32)
    segment = np.array([[1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 0, 0], [7, 7, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4]])
    logp = np.asarray(score_rows(CONFIG, params, tokens, segment))
    want = np.zeros((2, 12))
    for row, number in [(0, 1), (0, 2), (0, 3), (1, 7), (1, 4)]:
        at = np.flatnonzero(segment[row] == number)
        want[row, at[1:]] = oracle.sequence_logp(CONFIG, params, tokens[row, at])
    assert_near(logp, want)
    np.testing.assert_array_equal(logp[want == 0], 0.0)


def test_rows_of_one_token(params):
    one = np.ones((2, 1), np.int32)
    np.testing.assert_array_equal(score_rows(CONFIG, params, one, one), np.zeros((2, 1)))


def test_a_shared_prompt_is_the_packed_sequence(params):
    """The two ways to score a completion agree: on its prompt's keys, and concatenated."""
    prompt, (action, mask) = context(), completions()
    logp = score(CONFIG, params, prompt, action)
    parts = list(joined(prompt, action, mask))
    tokens, segment = np.zeros((6, 12), np.int32), np.zeros((6, 12), np.int32)
    for row, (_, _, start, rest) in enumerate(parts):
        both = np.concatenate([start, rest])
        tokens[row, : len(both)], segment[row, : len(both)] = both, 1
    whole = np.asarray(score_rows(CONFIG, params, tokens, segment))
    for row, (b, k, start, rest) in enumerate(parts):
        assert_near(logp[b, k, : len(rest)], whole[row, len(start) : len(start) + len(rest)])


def test_logits_and_their_logsumexp_are_the_oracle(params, monkeypatch):
    """Of completions, in chunks of two columns; Q − V is log π."""
    monkeypatch.setattr(logprob, "CHUNK", 12)
    prompt, (action, mask) = context(), completions()
    q, value = jax.jit(completion_q, static_argnums=0)(CONFIG, params, prompt, action)
    logp = score(CONFIG, params, prompt, action)
    assert_near(np.where(mask, q - value, 0), np.where(mask, logp, 0))
    for b, k, start, rest in joined(prompt, action, mask):
        both = np.concatenate([start, rest])
        logits = oracle.logits(CONFIG, params, both)[len(start) - 1 : -1]
        assert_near(q[b, k, : len(rest)], logits[np.arange(len(rest)), rest])
        top = logits.max(-1)
        want = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        assert_near(value[b, k, : len(rest)], want)


def test_packed_logits_are_those_of_each_sequence(params):
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 12)).astype(np.int32)
    segment = np.array([[1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 0, 0], [7, 7, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4]])
    q, value = jax.jit(sequence_q, static_argnums=0)(CONFIG, params, tokens, segment)
    logp = score_rows(CONFIG, params, tokens, segment)
    assert_near(q - value, logp)
    np.testing.assert_array_equal(np.asarray(value)[np.asarray(logp) == 0], 0.0)
    logits = oracle.logits(CONFIG, params, tokens[0, :5])
    assert_near(q[0, 1:5], logits[np.arange(4), tokens[0, 1:5]])


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_divergences_from_a_teacher_are_the_oracle(params, monkeypatch, beta):
    """In chunks of two columns; the teacher is deeper, has padding rows, sees another prompt."""
    monkeypatch.setattr(logprob, "CHUNK", 12)
    size = CONFIG.vocab_size
    deeper = dataclasses.replace(
        CONFIG, n_layers=CONFIG.n_layers + 1, vocab_size=size + 3, used_vocab=size
    )
    teacher, (action, mask), prompt = random_params(deeper, 1), completions(), context()
    shown = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), prompt)
    of = partial(completion_divergence, CONFIG, beta=beta, teacher_config=deeper)
    got = jax.jit(of)(params, teacher, prompt, action, teacher_context=shown)
    other = {(b, k): start for b, k, start, _ in joined(shown, action, mask)}
    for b, k, start, rest in joined(prompt, action, mask):
        tables = [
            oracle.log_softmax(oracle.logits(shape, x, np.concatenate([before, rest]))[:, :size])
            [len(before) - 1 : -1]
            for shape, x, before in ((deeper, teacher, other[b, k]), (CONFIG, params, start))
        ]  # fmt: skip
        want = [generalised_jsd(p, q, beta) for p, q in zip(*tables, strict=True)]
        assert_near(got[b, k, : len(rest)], np.array(want))


def test_a_teacher_of_other_tokens_is_refused(params):
    other = dataclasses.replace(CONFIG, used_vocab=CONFIG.vocab_size - 1)
    message = f"it has {CONFIG.vocab_size - 1} tokens, the policy {CONFIG.vocab_size}"
    with pytest.raises(InputError, match=message):
        completion_divergence(
            CONFIG, params, params, context(), completions()[0], beta=0.0, teacher_config=other
        )


def test_certainty_is_the_oracle(params, monkeypatch):
    monkeypatch.setattr(logprob, "CHUNK", 12)
    prompt, (action, mask) = context(), completions()
    of = jax.jit(completion_certainty, static_argnums=0)
    negative_entropy, certainty = of(CONFIG, params, prompt, action)
    for b, k, start, rest in joined(prompt, action, mask):
        logits = oracle.logits(CONFIG, params, np.concatenate([start, rest]))
        table = oracle.log_softmax(logits)[len(start) - 1 : -1]
        assert_near(negative_entropy[b, k, : len(rest)], (np.exp(table) * table).sum(-1))
        want = -np.log(CONFIG.vocab_size) - table.mean(-1)
        assert_near(certainty[b, k, : len(rest)], want)


def test_a_collision_at_a_temperature_is_the_oracle(params):
    prompt, (action, mask) = context(), completions()
    of = jax.jit(completion_logp_collision, static_argnums=0, static_argnames="temperature")
    logp, collision = of(CONFIG, params, prompt, action, temperature=0.6)
    for b, k, start, rest in joined(prompt, action, mask):
        logits = oracle.logits(CONFIG, params, np.concatenate([start, rest])) / 0.6
        table = oracle.log_softmax(logits)[len(start) - 1 : -1]
        assert_near(collision[b, k, : len(rest)], np.log((np.exp(table) ** 2).sum(-1)))
        assert_near(logp[b, k, : len(rest)], table[np.arange(len(rest)), rest])
