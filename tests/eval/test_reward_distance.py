"""Distances of rewards against sums written out, and against all policies of small processes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.tabular import random_mdp
from irl_jax.eval.reward_distance import (
    canonically_shaped,
    dard,
    dynamics_aware,
    epic,
    expected_reward,
    minimal_canonical,
    starc,
    transition_matrix,
    value_adjusted,
)
from irl_jax.types import InputError, TabularMDP
from tests.oracles import planning
from tests.oracles import recovery as oracle

S, A, GAMMA = 3, 2, 0.8
DS, DA = np.array([0.5, 0.2, 0.3]), np.array([0.3, 0.7])
WHOLE = (S, A, S)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def process(kind: str = "sparse") -> TabularMDP:
    """A process of 3 states and 2 actions; of the kind "ending" an action ends the episode."""
    successors = {"dense": None, "sparse": 2, "deterministic": 1, "ending": 2}[kind]
    mdp = random_mdp(jax.random.key(3), S, A, discount=GAMMA, successors=successors)
    if kind == "ending":
        mdp = replace(mdp, discount=mdp.discount.at[1, 0].set(0.0))
    return mdp


every_kind = pytest.mark.parametrize("kind", ["dense", "sparse", "deterministic", "ending"])
draw = lambda seed, shape=WHOLE: np.random.default_rng(seed).normal(size=shape)


def shaped(mdp: TabularMDP, reward: np.ndarray, seed: int = 5) -> np.ndarray:
    """The reward and a potential, R + γ Φ(s') − Φ(s)."""
    potential = 3 * draw(seed, S)
    after = np.asarray(mdp.discount)[..., None] * potential
    return reward + after - potential[:, None, None]


def redistributed(mdp: TabularMDP, seed: int = 6) -> np.ndarray:
    """A reward that no policy can tell from 0: E R(s, a, S') = 0."""
    reward, chance = draw(seed), planning.dense(mdp)
    return reward - (chance * reward).sum(-1, keepdims=True)


def orthogonal(mdp: TabularMDP, first: np.ndarray, second: np.ndarray, form) -> np.ndarray:
    """Of the second what has a canonical form at a right angle to that of the first."""
    x, y = (np.asarray(form(r)).ravel() for r in (first, second))
    return second - first * (x @ y) / (x @ x)


def test_epic_is_what_its_definition_says():
    first, second = draw(0), draw(1)
    form = partial(oracle.epic_form, discount=GAMMA, ds=DS, da=DA)
    found = canonically_shaped(first, discount=GAMMA, states=DS, actions=DA)
    np.testing.assert_allclose(found, form(first), rtol=1e-12)
    cover = DS[:, None, None] * DA[:, None] * DS
    distance = epic(first, second, discount=GAMMA, states=DS, actions=DA)
    expected = oracle.pearson_distance(form(first), form(second), cover)
    assert float(distance) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["dense", "sparse", "deterministic"])
def test_dard_is_what_its_definition_says(kind):
    first, second, transition = draw(0), draw(1), planning.dense(process(kind))
    np.testing.assert_allclose(transition_matrix(process(kind)), transition, rtol=1e-12)
    form = partial(oracle.dard_form, transition=transition, discount=GAMMA, da=DA)
    found = dynamics_aware(first, transition, discount=GAMMA, actions=DA)
    np.testing.assert_allclose(found, form(first), rtol=1e-12)
    cover = DS[:, None, None] * DA[:, None] * transition
    distance = dard(first, second, transition, discount=GAMMA, states=DS, actions=DA)
    expected = oracle.pearson_distance(form(first), form(second), cover)
    assert float(distance) == pytest.approx(expected, rel=1e-12)


@every_kind
def test_levelling_gives_the_advantages_of_its_policy(kind):
    mdp, reward = process(kind), draw(0)
    expected = (planning.dense(mdp) * reward).sum(-1)
    np.testing.assert_allclose(expected_reward(mdp, reward), expected, rtol=1e-12)
    for policy in (np.full((S, A), 0.5), np.random.default_rng(2).dirichlet(np.ones(A), S)):
        value = oracle.value(mdp, expected, policy)
        after = np.asarray(mdp.discount) * (planning.dense(mdp) @ value)
        found = value_adjusted(mdp, reward, None if policy[0, 0] == 0.5 else policy)
        np.testing.assert_allclose(found, expected + after - value[:, None], atol=1e-12)


@every_kind
def test_the_minimal_form_is_the_shortest_of_all_that_policies_cannot_tell_apart(kind):
    """The residual of least squares in all potentials and redistributions, as a matrix."""
    mdp, reward = process(kind), draw(0)
    null = oracle.unidentified(mdp, WHOLE)
    shortest = reward.ravel() - null @ (null.T @ reward.ravel())
    np.testing.assert_allclose(minimal_canonical(mdp, reward).ravel(), shortest, atol=1e-12)


DISTANCES = {
    "epic": lambda mdp, x, y: epic(x, y, discount=GAMMA),
    "dard": lambda mdp, x, y: dard(x, y, transition_matrix(mdp), discount=GAMMA),
    "starc": starc,
    "starc_minimal": partial(starc, form=minimal_canonical),
}
FORMS = {
    "epic": lambda mdp, x: canonically_shaped(x, discount=GAMMA),
    "starc": value_adjusted,
    "starc_minimal": minimal_canonical,
}


@pytest.mark.parametrize("name", DISTANCES)
def test_the_distance_is_0_under_shaping_and_scale_1_of_the_opposite_and_between_else(name):
    mdp, reward = process(), draw(0)
    distance = jax.jit(partial(DISTANCES[name], mdp))
    assert float(distance(reward, 7 * shaped(mdp, reward))) < 1e-7
    assert float(distance(reward, -0.1 * shaped(mdp, reward))) == pytest.approx(1.0, abs=1e-12)
    other = draw(1)
    assert 0.05 < float(distance(reward, other)) < 0.95
    assert float(distance(reward, other)) == pytest.approx(float(distance(other, reward)))
    third = draw(2)
    longer = float(distance(reward, third)) + float(distance(third, other))
    assert float(distance(reward, other)) <= longer


@pytest.mark.parametrize("name", FORMS)
def test_rewards_at_a_right_angle_are_apart_by_the_root_of_a_half(name):
    mdp, reward = process(), draw(0)
    other = orthogonal(mdp, reward, draw(1), partial(FORMS[name], mdp))
    assert float(DISTANCES[name](mdp, reward, other)) == pytest.approx(0.5**0.5, rel=1e-12)


def test_what_is_paid_for_transitions_that_never_come_moves_epic_alone():
    mdp, reward = process("deterministic"), draw(0)
    never = np.where(planning.dense(mdp) == 0, draw(1), 0.0)
    assert float(epic(reward, reward + never, discount=GAMMA)) > 0.1
    for form in (value_adjusted, minimal_canonical):
        assert float(starc(mdp, reward, reward + never, form)) < 1e-7


@pytest.mark.parametrize("name", DISTANCES)
def test_a_potential_alone_is_a_half_from_any_other_reward(name):
    """Its canonical form is rounding, which is not blown up to length 1."""
    mdp, reward = process(), draw(0)
    nothing = shaped(mdp, np.zeros(WHOLE))
    assert float(DISTANCES[name](mdp, reward, nothing)) == pytest.approx(0.5, rel=1e-12)
    assert float(DISTANCES[name](mdp, nothing, 2 * nothing)) == 0.0


@pytest.mark.parametrize("name", DISTANCES)
def test_rewards_of_actions_and_of_states_are_read_as_rewards_of_transitions(name):
    mdp, whole = process(), draw(0)
    for shape in ((S, A), (S,)):
        reward = draw(1, shape)
        wide = np.broadcast_to(reward.reshape(shape + (1,) * (3 - len(shape))), WHOLE)
        distance = partial(DISTANCES[name], mdp)
        assert float(distance(whole, reward)) == pytest.approx(float(distance(whole, wide)))
        both = distance(reward, draw(2, shape))
        assert 0.0 < float(both) < 1.0


@every_kind
def test_starc_is_0_if_and_only_if_policies_are_ordered_alike(kind):
    """By the return of every deterministic policy: one is a positive affine map of the other."""
    mdp, reward = process(kind), draw(0)
    own = oracle.returns(mdp, reward)
    alike = 2.5 * shaped(mdp, reward) + redistributed(mdp)
    other = oracle.returns(mdp, alike)
    np.testing.assert_allclose(other - other[0], 2.5 * (own - own[0]), atol=1e-10)
    almost = alike + 1e-2 * draw(4)
    theirs = oracle.returns(mdp, almost)
    slope, offset = np.polyfit(own, theirs, 1)
    assert np.abs(theirs - slope * own - offset).max() > 1e-4
    for form in (value_adjusted, minimal_canonical):
        assert float(starc(mdp, reward, alike, form)) < 1e-7
        assert float(starc(mdp, reward, almost, form)) > 1e-4


@every_kind
def test_starc_bounds_the_regret_of_every_pair_of_policies(kind):
    """J(π) − J(π') ≤ 2 d ‖C(R)‖ ‖μ − μ'‖ wherever the other reward has π' no worse than π."""
    mdp = process(kind)
    visits = np.stack([visited(mdp, policy) for policy in oracle.deterministic_policies(S, A)])
    apart = np.linalg.norm(visits[:, None] - visits[None], axis=(2, 3))
    misled = 0
    for seed in range(20):
        first = draw(seed)
        second = shaped(mdp, first, seed + 50) + draw(seed + 100)
        own, other = oracle.returns(mdp, first), oracle.returns(mdp, second)
        size = np.linalg.norm(np.asarray(value_adjusted(mdp, first)))
        bound = 2 * float(starc(mdp, first, second)) * size * apart
        lost = np.where(other[None] >= other[:, None], own[:, None] - own[None], 0.0)
        assert (lost <= bound + 1e-9).all()
        misled += (lost > 0.5 * bound).any() and lost.max() > 0.1
    assert misled > 3  # the bound is near what is lost, not far above


def visited(mdp: TabularMDP, policy: np.ndarray) -> np.ndarray:
    """Discounted visits of 200 steps, f64[S, A]."""
    mass, chance = np.asarray(mdp.start), planning.dense(mdp)
    total = np.zeros((S, A))
    for _ in range(200):
        taken = mass[:, None] * policy
        total += taken
        mass = np.einsum("sa,sat->t", np.asarray(mdp.discount) * taken, chance)
    return total


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: epic(jnp.zeros((2, 2, 3)), jnp.zeros(3), discount=0.9), "first: expected shape"),
        (lambda m: epic(jnp.zeros(()), jnp.zeros(3), discount=0.9), "first: expected 1, 2 or 3"),
        (lambda m: epic(jnp.zeros(WHOLE), jnp.zeros(S), discount=1.9), "discount"),
        (
            lambda m: epic(jnp.zeros(WHOLE), jnp.zeros(S), discount=0.9, states=jnp.ones(2)),
            "states: expected shape",
        ),
        (
            lambda m: dard(jnp.zeros(WHOLE), jnp.zeros(S), m.prob, discount=0.9),
            "transition: expected shape",
        ),
        (lambda m: starc(m, jnp.zeros(S), jnp.zeros((S, A + 1))), "reward: expected shape"),
        (lambda m: value_adjusted(m, jnp.zeros(S), jnp.ones(S)), "policy: expected shape"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(process())
