"""Practice of chains of sums: what is right, what is taught, what it costs."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arithmetic.chain_sums import (
    EOS,
    decode,
    encode,
    policy_config,
    prompts,
    questions,
    solve,
)
from experiments.arithmetic.practice import (
    Model,
    Practice,
    delayed,
    distilled,
    flops_per_token,
    reinforced,
    right_answers,
    taught,
)
from irl_jax.models.decoder import init_params
from irl_jax.train.progress import Progress
from irl_jax.types import Group
from tests.oracles import decoder as oracle
from tests.oracles.distillation import generalised_jsd

WIDTH, TOKENS = 4, 15
STUDENT, TEACHER = (policy_config(2, 1, width=width, layers=1) for width in (8, 16))
PRACTICE = Practice(prompts=2, completions=3, width=WIDTH, tokens=TOKENS, lr=1e-3, steps=2)


@pytest.fixture(scope="module")
def student():
    return Model(STUDENT, init_params(STUDENT, jax.random.key(0)))


@pytest.fixture(scope="module")
def teacher():
    return Model(TEACHER, init_params(TEACHER, jax.random.key(1)))


@pytest.fixture(scope="module")
def asked():
    return list({q.text: q for q in questions(40, terms=2, digits=1, seed=0)}.values())


def group_of(context, texts, ended):
    """Solutions of prompts, [B][K] texts."""
    b, k = np.shape(texts)
    action, mask = np.full((b, k, TOKENS), EOS), np.zeros((b, k, TOKENS), bool)
    for row, column in np.ndindex(b, k):
        ids = [*encode(texts[row][column]), *[EOS] * ended[row][column]]
        action[row, column, : len(ids)], mask[row, column, : len(ids)] = ids, True
    zero = jnp.zeros((b, k, TOKENS))
    return Group(context=context, action=jnp.asarray(action), mask=jnp.asarray(mask), logp=zero,
                 reward=jnp.zeros((b, k)), terminated=jnp.asarray(ended))  # fmt: skip


def test_an_answer_is_the_last_line_of_what_is_given_and_written():
    two = [solve("7 - 5"), solve("9 + 8")]
    texts = [["7-5=2\n#2", "#2", "7-5=2\n#12"], ["9+8=17\n#17", "9+8=17\n#1", "17"]]
    ended = [[True, True, True], [False, True, True]]
    group = group_of(prompts(two, WIDTH), texts, ended)
    np.testing.assert_array_equal(right_answers(group), [[1, 1, 0], [0, 0, 0]])
    begun = prompts(two, WIDTH + TOKENS, ["7-5=2\n#", "9+8=17\n#1"])
    group = group_of(begun, [["2", "12"], ["7", "17"]], [[True, True], [True, True]])
    np.testing.assert_array_equal(right_answers(group), [[1, 0], [1, 0]])


def test_a_batch_asks_each_question_once_a_round(asked):
    batches = PRACTICE.batches(asked[:5], seed=3)
    rounds = [[decode(row) for row in next(batches).tokens.tolist()] for _ in range(4)]
    for first, second in (rounds[:2], rounds[2:]):
        assert len({*first, *second}) == 4
    assert {text for batch in rounds for text in batch} <= {q.text for q in asked[:5]}
    again = [[decode(row) for row in batch.tokens.tolist()] for batch, _ in
             zip(PRACTICE.batches(asked[:5], seed=3), range(4), strict=False)]  # fmt: skip
    assert again == rounds


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_what_is_taught_is_the_divergence_of_each_token(student, teacher, asked, beta):
    context = prompts(asked[:2], WIDTH)
    texts = [["7-5=2", "#1"], ["", "12"]]
    group = group_of(context, texts, [[True, False], [True, True]])
    objective = jax.jit(taught(STUDENT, TEACHER, beta))
    loss = objective(student.params, group, jax.random.key(0), teacher.params)
    found = []
    for row, k in np.ndindex(2, 2):
        before = [i for i in context.tokens[row].tolist() if i != EOS]
        own = np.asarray(group.action)[row, k][np.asarray(group.mask)[row, k]].tolist()
        tables = [
            oracle.log_softmax(oracle.logits(m.config, m.params, np.array(before + own)))
            for m in (teacher, student)
        ]
        at = range(len(before) - 1, len(before) + len(own) - 1)
        found += [generalised_jsd(tables[0][t], tables[1][t], beta) for t in at]
    assert float(loss.weight) == len(found)
    np.testing.assert_allclose(float(loss.total), sum(found), rtol=2e-4)


def test_compute_of_a_token_is_twice_the_weights_of_its_matmuls():
    shapes = jax.eval_shape(partial(init_params, TEACHER), jax.random.key(0))
    kernels = [leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
               if "kernel" in jax.tree_util.keystr(path)]  # fmt: skip
    assert TEACHER.tie_embeddings
    unembedding = shapes["embed"]["embedding"].size
    assert flops_per_token(TEACHER) == 2 * (sum(kernels) + unembedding)


def test_practice_learns_from_what_is_chosen(student, asked):
    """Where nothing is chosen that differs, nothing is learned; runs repeat to the bit."""
    seen = []

    def alike(group):
        seen.append(np.asarray(group.reward))
        return replace(group, reward=jnp.ones_like(group.reward))

    def differing(group):
        return replace(group, reward=jnp.arange(6.0).reshape(2, 3))

    def run(choose):
        return reinforced(student, PRACTICE.batches(asked, 0), PRACTICE, seed=0,
                          progress=Progress(), stage="practice", choose=choose).params  # fmt: skip

    same, moved, again = run(alike), run(differing), run(differing)
    assert [reward.shape for reward in seen] == [(2, 3)] * 2 and np.max(seen) <= 1
    jax.tree.map(np.testing.assert_array_equal, same, student.params)
    jax.tree.map(np.testing.assert_array_equal, moved, again)
    assert not np.array_equal(moved["embed"]["embedding"], student.params["embed"]["embedding"])


@pytest.mark.parametrize("on_policy", [True, False])
def test_a_student_comes_to_its_teacher(student, teacher, asked, on_policy):
    """By both, and from its own tokens or the teacher's as it was told."""
    practice = replace(PRACTICE, lr=2e-2, steps=30, completions=8)
    after = distilled(student, teacher, practice.batches(asked, 0), practice, on_policy=on_policy,
                      seed=0, progress=Progress(), stage="practice")  # fmt: skip
    sample = lambda model: practice.sample(
        model.config, model.params, prompts(asked[:4], WIDTH), jax.random.key(9)
    )
    group = sample(student if on_policy else teacher)
    objective = jax.jit(taught(STUDENT, TEACHER, float(on_policy)))
    gap = [objective(x.params, group, jax.random.key(0), teacher.params) for x in (student, after)]
    before, later = (float(loss.total / loss.weight) for loss in gap)
    assert later < 0.5 * before


def test_a_delayed_rollout_acts_by_earlier_parameters():
    seen = []
    rollout = delayed(lambda params, batch, key: seen.append(int(params)), 2)
    for number in range(5):
        rollout(np.int32(number), None, None)
    assert seen == [0, 0, 0, 1, 2]
