"""Every family against transformers: logits however rows are laid out, decoding, files.

The last test prints the table of what was measured (`pytest -s`).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import forward, logits
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.decoding import decode_step, init_cache, prefill
from irl_jax.models.families import FAMILIES as TABLE
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.types import Prompt
from tests.models.families import FAMILIES
from tests.models.torch_models import error, random_model, theirs, transformers
from tests.oracles import decoder as oracle

TOLERANCE = 1e-4
CASES = [(name, i) for name, configs in FAMILIES.items() for i in range(len(configs))]
ROWS, COLUMNS, K, STEPS = 3, 24, 2, 8
SEGMENTS = np.repeat([[1, 2, 0], [4, 4, 7], [0, 3, 3]], 8, axis=1).astype(np.int32)


def layouts(vocab_size, seed=0):
    """Rows, a mask with padding on either side, and completions of the rows."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab_size, (ROWS, COLUMNS)).astype(np.int32)
    action = rng.integers(0, vocab_size, (ROWS, K, STEPS)).astype(np.int32)
    columns = np.arange(COLUMNS)
    return (
        tokens,
        columns >= np.array([[0], [7], [15]]),
        columns < np.array([[24], [9], [17]]),
        action,
    )


@functools.partial(jax.jit, static_argnums=0)
def ours(config, params, tokens, left, right, action):
    """Logits of the same rows in every layout, and the gradient of a likelihood."""
    scores = lambda p, rows, **how: logits(config, p, forward(config, p, rows, **how)[0])

    def loss(p):
        _, prefix = forward(config, p, tokens, mask=left)
        shared = scores(p, action, prefix=prefix)
        return jnp.sin(shared).sum(), shared

    (_, shared), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    padded = scores(params, jnp.concatenate([tokens] * 2), mask=jnp.concatenate([left, right]))
    return {
        "left": padded[:ROWS],
        "right": padded[ROWS:],
        "packed": scores(params, tokens, segment=SEGMENTS),
        "shared": shared,
        "gradient": gradient,
    }


@functools.partial(jax.jit, static_argnums=0)
def greedy(config, params, prompt):
    """STEPS most likely tokens after each prompt, by the cache, and the logits behind them."""
    before, prefix, layers = prefill(config, params, prompt)
    cache = init_cache(config, ROWS, 1, STEPS)

    def step(carry, index):
        hidden, cache = carry
        scores = logits(config, params, hidden)
        token = scores.argmax(-1).astype(jnp.int32)
        hidden, cache = decode_step(config, params, layers, token, index, prefix, cache)
        return (hidden, cache), (token[:, 0], scores[:, 0])

    start = before[:, None], cache
    _, (tokens, scores) = jax.lax.scan(step, start, jnp.arange(STEPS))
    return tokens.T, scores.swapaxes(0, 1)


def packed_error(model, tokens, got):
    """Of each segment of packed rows, which transformers reads alone."""
    found = []
    for row, number in {(r, n) for r in range(ROWS) for n in SEGMENTS[r] if n}:
        own = SEGMENTS[row] == number
        alone = tokens[row, own][None]
        everything = np.ones(alone.shape, bool)
        found.append(error(got[row, own][None], theirs(model, alone, everything), everything))
    return max(found)


def joined_logits(model, tokens, mask, more):
    """Theirs at the end of each prompt and at each token after it, f[B, 1 + T, V]."""
    rows = np.concatenate([tokens, more], axis=1)
    valid = np.concatenate([mask, np.ones(more.shape, bool)], axis=1)
    return theirs(model, rows, valid)[:, COLUMNS - 1 :]


@functools.cache
def measured(name, number, folder):
    """check -> largest relative error, or whether it holds, of one configuration."""
    model = random_model(FAMILIES[name][number], seed=number)
    model.save_pretrained(folder / "theirs")
    config, params = load_huggingface(folder / "theirs")
    tokens, left, right, action = layouts(config.vocab_size)
    got = jax.device_get(ours(config, params, tokens, left, right, action))
    found = {
        kind: error(got[kind], theirs(model, tokens, mask), mask)
        for kind, mask in (("left", left), ("right", right))
    }
    found["packed"] = packed_error(model, tokens, got["packed"])
    inside = np.ones((ROWS, STEPS), bool)
    found["shared"] = max(
        error(got["shared"][:, k], joined_logits(model, tokens, left, action[:, k])[:, 1:], inside)
        for k in range(K)
    )
    chosen, scores = jax.device_get(greedy(config, params, Prompt(tokens, left)))
    want = joined_logits(model, tokens, left, chosen)[:, :-1]
    found["cached"] = error(scores, want, inside)
    found["greedy"] = bool((want.argmax(-1) == chosen).all())
    leaves = jax.tree.leaves(got["gradient"])
    found["gradient"] = all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in leaves)
    save_huggingface(folder / "ours", config, params)
    again, restored = load_huggingface(folder / "ours")
    same = jax.tree.map(np.array_equal, restored, params)
    found["bits"] = again == config and all(jax.tree.leaves(same))
    exported = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "ours", attn_implementation="eager"
    ).eval()
    assert type(exported) is type(model)
    found["export"] = np.array_equal(theirs(exported, tokens, left), theirs(model, tokens, left))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return functools.cache(lambda name, number: tmp_path_factory.mktemp(f"{name}-{number}"))


@pytest.mark.parametrize(("name", "number"), CASES)
def test_family(folder, name, number):
    found = measured(name, number, folder(name, number))
    for check, value in found.items():
        assert value is True if isinstance(value, bool) else value < TOLERANCE, (check, value)


STRUCTURE = {
    "attention_bias",
    "output_bias",
    "mlp_bias",
    "qk_norm",
    "norms",
    "tie_embeddings",
    "n_experts",
    "family",
}
"""Fields with which the parameters, or nothing but the file, would be others."""


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_switch_is_felt(folder, name, number):
    """Each field at its default moves the logits of the oracle: parity sees it."""
    place = folder(name, number)
    measured(name, number, place)
    config, params = load_huggingface(place / "ours")
    tokens = layouts(config.vocab_size)[0][0]
    before = oracle.logits(config, params, tokens)
    for field in dataclasses.fields(DecoderConfig):
        if field.name in STRUCTURE or field.default is dataclasses.MISSING:
            continue
        if getattr(config, field.name) != field.default:
            other = config.n_experts if field.name == "experts_per_token" else field.default
            changed = dataclasses.replace(config, **{field.name: other})
            moved = np.abs(oracle.logits(changed, params, tokens) - before).max()
            assert moved > 10 * TOLERANCE * np.abs(before).max(), field.name


def test_every_family_is_tested():
    assert set(FAMILIES) == set(TABLE)


def test_table(folder, capsys):
    """Families by checks: relative error of logits, or whether it holds."""
    rows = {f"{name} {i + 1}": measured(name, i, folder(name, i)) for name, i in CASES}
    checks = list(next(iter(rows.values())))
    cell = lambda value: ("yes" if value else "no") if isinstance(value, bool) else f"{value:.0e}"
    lines = ["".join([f"{'':14}", *(f"{check:>9}" for check in checks)])]
    for label, found in rows.items():
        lines.append("".join([f"{label:14}", *(f"{cell(found[check]):>9}" for check in checks)]))
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert len(lines) == len(CASES) + 1
