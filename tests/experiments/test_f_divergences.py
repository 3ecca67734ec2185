"""f-divergences where no policy goes to both corners: minimised exactly, learned on control."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.f_divergences.config import CONFIG, ControlConfig
from experiments.f_divergences.control import (
    EDGES,
    LEARNERS,
    LINEAR,
    ONE,
    REWARDS,
    demonstrated,
    drive,
    modes,
    visits,
)
from experiments.f_divergences.study import main, measure
from experiments.f_divergences.worlds import (
    ANY,
    DIVERGENCES,
    FORWARD,
    MOVED,
    PLANNED,
    Learner,
    learners,
    make_objective,
    make_world,
    nearest,
    support,
)
from irl_jax.recipes.control import PPOConfig
from irl_jax.recipes.imitation import DiscriminatorConfig
from irl_jax.types import InputError
from tests.oracles.planning import dense

TINY = replace(
    CONFIG,
    worlds=2,
    rows=3,
    columns=3,
    walls=0,
    searches=12,
    control=ControlConfig(
        seeds=2,
        horizon=120,
        episodes=4,
        measured=4,
        discriminator=DiscriminatorConfig(updates=1, rows=8, widths=(4,)),
        policy=PPOConfig(steps=64, environments=4, unroll=8, widths=(4,), critic_widths=(4,)),
    ),
)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def visits_by_hand(mdp, policy):
    """Σ_t γᵗ P(sₜ, aₜ) in shares, by 2,000 steps of the chain; f64[S, A]."""
    transition, gamma = dense(mdp), float(mdp.discount[0, 0])
    state, total = np.asarray(mdp.start, float), 0.0
    for t in range(2000):
        total = total + gamma**t * state[:, None] * policy
        state = np.einsum("s,sa,sat->t", state, policy, transition)
    return total / total.sum()


def divergence_by_hand(name, p, q):
    """Σ over places, as each is usually written; p the expert's shares, q the learner's."""
    middle = 0.5 * (p + q)
    kl = lambda x, y: sum(a * np.log(a / b) for a, b in zip(x.ravel(), y.ravel(), strict=True))
    return {
        "χ²": lambda: ((p - q) ** 2 / q).sum(),
        "forward KL": lambda: kl(p, q),
        "squared Hellinger": lambda: ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(),
        "Jensen-Shannon": lambda: kl(p, middle) + kl(q, middle),
        "reverse KL": lambda: kl(q, p),
        "reverse χ²": lambda: 0.5 * ((p - q) ** 2 / p).sum(),
    }[name]()


@pytest.mark.parametrize("name", learners(TINY))
def test_the_objective_is_the_divergence_of_visits(name):
    """And its gradient that of differences."""
    learner, world = learners(TINY)[name], make_world(TINY, 1)
    objective = make_objective(learner)
    theta = np.random.default_rng(0).normal(size=learner.size)
    policy = np.exp(learner.policy(world.mdp, theta))
    q = visits_by_hand(world.mdp, policy)
    along = np.random.default_rng(1).normal(size=learner.size)
    for number, divergence in enumerate(DIVERGENCES):
        at = lambda x, n=number: objective(x, n, world.mdp, world.expert)
        value, slope = at(theta)
        expected = np.log1p(divergence_by_hand(divergence, world.expert, q))
        assert float(value) == pytest.approx(expected, rel=1e-9)
        step = 1e-5 * along
        difference = (at(theta + step)[0] - at(theta - step)[0]) / 2e-5
        assert float(slope @ along) == pytest.approx(float(difference), rel=1e-5)


def test_an_expert_is_a_mixture_of_two_who_go_to_corners():
    for number in range(4):
        config = replace(CONFIG, support=0.8)
        world = make_world(config, number)
        assert world.expert.sum() == pytest.approx(1.0)
        assert world.walls.sum() == config.walls and not world.expert[world.walls].any()
        of_cells = world.expert.sum(-1)
        inside = world.modes.any(0)
        assert not world.modes.all(0).any()
        assert config.support <= of_cells[inside].sum() < config.support + of_cells[inside].min()
        corners = np.isin(range(25), [0, 4, 20, 24])
        visited = np.sort(of_cells[corners])
        assert visited[2] > 4 * visited[1]  # two of the four
        heavy, light = (of_cells[mode & corners].max() for mode in world.modes)
        assert heavy > light
        # whoever draws at the start of an episode leaves the visits of one who draws at each step
        policy = world.expert / np.where(of_cells > 0, of_cells, 1.0)[:, None]
        policy[of_cells == 0] = 0.25
        np.testing.assert_allclose(visits_by_hand(world.mdp, policy), world.expert, atol=1e-12)


def test_support_is_the_fewest_cells():
    visits = np.array([0.1, 0.4, 0.2, 0.3])
    assert support(visits, 0.7).tolist() == [False, True, False, True]
    assert support(visits, 0.71).tolist() == [False, True, True, True]
    assert support(5 * visits, 0.4).tolist() == [False, True, False, False]


def test_learners_are_as_wide_as_they_say():
    mdp = make_world(TINY, 0).mdp
    kinds = learners(TINY)
    logp = kinds[MOVED].policy(mdp, np.array([0.5, -1.0, 2.0]))
    np.testing.assert_allclose(np.exp(logp).sum(-1), 1.0)
    np.testing.assert_allclose(logp - logp[:, -1:], [[0.5, -1.0, 2.0, 0.0]] * 9)
    up, right, down, left = np.exp(kinds[PLANNED].policy(mdp, np.array([2.0, -1.0])))[4]
    assert down > left > right and left > up  # rows count downwards, columns to the right
    for kind in kinds.values():
        uniform = kind.policy(mdp, np.zeros(kind.size))
        np.testing.assert_allclose(uniform, -np.log(4), atol=1e-9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of `TINY`, its control made up: configuration, summary, visits of both halves."""
    config = replace(TINY, run_dir=tmp_path_factory.mktemp("f_divergences") / "run")
    rng = np.random.default_rng(0)
    made_up = lambda *of: rng.dirichlet(np.ones(len(EDGES) * 2), of).reshape(*of, len(EDGES), 2)
    driven = {name: made_up(len(REWARDS), 2) for name in LEARNERS} | {"expert": made_up(2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.f_divergences.study.drive", lambda config, advance: driven)
        main(config)
    found = {name: np.load(config.run_dir / f"{name}.npz") for name in ("found", "control")}
    summary = json.loads((config.run_dir / "summary.json").read_text())
    return config, summary, found["found"]["visits"], dict(found["control"])


def test_each_minimiser_is_the_least_in_its_own_divergence(whole):
    """Of what minimises any of them; and any policy is found to be the expert's own."""
    found = whole[2]
    for number in range(TINY.worlds):
        expert = make_world(TINY, number).expert
        for kind, each in zip(learners(TINY), found[number], strict=True):
            values = np.array(
                [[divergence_by_hand(name, expert, q) for name in DIVERGENCES] for q in each]
            )
            assert (np.diagonal(values) <= values.min(0) + 1e-9).all(), kind
            if kind == ANY:
                np.testing.assert_allclose(each, np.broadcast_to(expert, each.shape), atol=1e-5)
            else:
                apart = 0.5 * np.abs(each[:, None] - each[None]).sum((-1, -2))
                assert apart.max() > 1e-3, kind


def test_a_search_finds_the_least_minimum_of_all():
    """By looking everywhere, for a learner of two parameters, on a grid 0.5 apart."""
    config = replace(TINY, searches=24)
    learner, world = learners(config)[PLANNED], make_world(config, 0)
    objective = make_objective(learner)
    theta = np.stack(np.meshgrid(*[np.arange(-5, 5.1, 0.5)] * 2), -1).reshape(-1, 2)
    for name in (FORWARD, "reverse KL"):
        number = list(DIVERGENCES).index(name)
        best = nearest(config, learner, objective, number, world)
        values = [float(objective(x, number, world.mdp, world.expert)[0]) for x in theta]
        assert best.value <= min(values) <= best.value + 0.1
        assert np.abs(theta[np.argmin(values)] - best.theta).max() < 0.75


def test_a_search_takes_the_best_of_its_ends_and_stops_at_nothing():
    """Of x⁴ − 2x² + ax + 2, whose minima are near −1 and 1."""
    seen = []

    def well(theta, number, mdp, expert):
        seen.append(theta[0])
        x = theta[0]
        return x**4 - 2 * x**2 + 0.2 * number * x + 2.0, np.array([4 * x**3 - 4 * x + 0.2 * number])

    config = replace(CONFIG, searches=40)
    one = Learner(1, lambda mdp, theta: theta)
    for number, end in ((1, -1), (-1, 1)):
        best = nearest(config, one, well, number, make_world(TINY, 0))
        assert best.theta[0] == pytest.approx(end, abs=0.05)
        assert 0.2 < best.alike < 0.8
    seen.clear()
    bowl = lambda theta, *_: (seen.append(theta) or float(theta @ theta), 2 * theta)
    assert nearest(config, one, bowl, 0, make_world(TINY, 0)).alike == 1.0
    assert len(seen) == 1


def test_measures_by_hand():
    world = make_world(TINY, 0)
    flat = np.full((9, 4), 1 / 36)
    expert, (heavy, light) = world.expert.sum(-1), world.modes
    found = measure(world, flat)
    assert found["heavy"] == pytest.approx(heavy.sum() / 9)
    assert found["light"] == pytest.approx(light.sum() / 9)
    assert found["off"] == pytest.approx((~heavy & ~light).sum() / 9)
    parts = [mode.sum() / 9 / expert[mode].sum() for mode in world.modes]
    assert found["covered"] == pytest.approx(min(parts))
    assert found["distance"] == pytest.approx(np.maximum(flat - world.expert, 0.0).sum())
    assert measure(world, world.expert)["covered"] == pytest.approx(1.0)


def test_the_whole_in_small(whole, capsys):
    config, summary, visits, _ = whole
    assert visits.shape == (2, 4, 6, 9, 4)
    np.testing.assert_allclose(visits.sum((-1, -2)), 1.0)
    worlds = [make_world(config, number) for number in range(2)]
    for at, kind in enumerate(learners(config)):
        for i, name in enumerate(DIVERGENCES):
            each = [measure(w, v[at, i]) for w, v in zip(worlds, visits, strict=True)]
            for key, rows in summary["measured"].items():
                mean = np.mean([x[key] for x in each])
                assert rows[kind][name][0] == pytest.approx(mean, abs=1e-9)
            row = [
                np.median(
                    [
                        divergence_by_hand(other, w.expert, v[at, i])
                        for w, v in zip(worlds, visits, strict=True)
                    ]
                )
                for other in DIVERGENCES
            ]
            assert list(summary["matrix"][kind][name].values()) == pytest.approx(
                row, rel=1e-9, abs=1e-9
            )
        more = summary["behind"]["off"][kind]["χ²"]["more"][0]
        rows = summary["measured"]["off"][kind]
        assert more == pytest.approx(rows["χ²"][0] - rows[FORWARD][0], abs=1e-12)
        assert summary["exceeding"][kind] < 1e-9
    assert summary["between"][ANY] < 1e-5 < summary["between"][PLANNED]
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 6
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


def test_a_cart_is_counted_where_it_is_or_as_fallen():
    seen = np.zeros((2, 3, 5), np.float32)
    seen[..., 0] = [[-2.5, -0.1, 0.1], [2.5, 0.3, 0.0]]
    seen[1, 2, 4] = 1.0
    action = np.array([[0, 1, 1], [0, 1, 1]])
    with jax.enable_x64(False):
        found = np.asarray(visits(seen, action))
    expected = np.zeros((len(EDGES), 2))
    for cell, a in [(0, 0), (11, 1), (12, 1), (23, 0), (13, 1), (24, 1)]:
        expected[cell, a] += 1 / 6
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(EDGES[[0, 12, 24]], [-2.4, 0.0, 2.4], atol=1e-12)


def test_the_demonstrations_go_to_either_side_as_often_as_they_should():
    config = replace(TINY, control=replace(TINY.control, episodes=5))
    shown = jax.jit(lambda light: demonstrated(config, jax.random.key(0), light))
    with jax.enable_x64(False):
        for light, left in ((0.4, 2), (0.0, 0)):
            found = shown(np.float32(light))
            kept, ends = np.asarray(found.mask), np.asarray(found.context[:, -1, 0])
            assert (kept.all(-1) == kept.any(-1)).all() and kept.any(-1).sum() == 5
            assert (ends[kept[:, 0]] < 0).sum() == left
            assert np.abs(np.abs(ends) - 0.6).max() < 0.4


def test_the_figures_of_control_are_those_of_what_was_visited(whole):
    config, summary, _, found = whole
    for learner in LEARNERS:
        expert = modes(config, found["expert"], learner)
        light = 0.0 if learner == ONE else config.control.light
        mixed = (1 - light) * found["expert"][0] + light * found["expert"][1]
        np.testing.assert_allclose(expert.expert, mixed)
        assert expert.modes[1].any() == (learner != ONE)
        for at, name in enumerate(REWARDS):
            rows = [measure(expert, x) for x in found[learner][at]]
            for key, of in summary["control"]["measured"].items():
                mean = np.mean([row[key] for row in rows])
                assert of[learner][name][0] == pytest.approx(mean, abs=1e-9), (learner, key)
            settled = np.mean([row["covered"] < 0.2 for row in rows])
            assert summary["control"]["settled"][learner][name][0] == settled


@pytest.mark.slow
def test_each_learner_of_control_has_its_reward_and_its_expert():
    with jax.enable_x64(False):
        found = drive(TINY, lambda done, metrics: None)
    right, left = found["expert"].sum(-1)
    cells = 0.5 * (EDGES[1:] + EDGES[:-1])
    assert right[:-1] @ cells > 0.15 and left[:-1] @ cells < -0.15 and right[-1] == left[-1] == 0
    for learner in LEARNERS:
        each = found[learner]
        assert each.shape == (len(REWARDS), 2, len(EDGES), 2)
        np.testing.assert_allclose(each.sum((-1, -2)), 1.0, rtol=1e-5)
    apart = np.abs(found[LINEAR][:, None] - found[LINEAR][None]).sum((2, 3, 4))
    assert (apart > 1e-3).sum() >= len(REWARDS)
    assert np.abs(found[LINEAR] - found[ONE]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worlds": 1}, "worlds"),
        ({"walls": 1, "rows": 3, "columns": 3}, "walls: expected fewer than the 1 cells"),
        ({"heaviest": 0.1}, "heaviest"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
