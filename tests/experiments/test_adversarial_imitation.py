"""Imitation of recorded experts: what is read and shown, arms and summary, the whole in small."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.adversarial_imitation.config import CONFIG
from experiments.adversarial_imitation.learners import POINTS, Lane, World, clone_of_all
from experiments.adversarial_imitation.study import learned, main, rows_of, summarise
from experiments.adversarial_imitation.tasks import HORIZON, read_episodes, show, tasks
from irl_jax.recipes.cloning import CloningConfig
from irl_jax.types import InputError

NUMBER = 9


def write(folder: Path) -> Path:
    """Episodes in the form of the data, of experts that act by a rule; some are longer."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for task in tasks().values():
        length = HORIZON + rng.integers(0, 3, NUMBER)
        seen = [rng.normal(size=(n + 1, *task.env.observation)).astype(np.float32) for n in length]
        if task.actions is None:
            acts = np.concatenate([(x[:-1, 2] > 0).astype(np.int64) for x in seen])
        else:
            acts = np.concatenate([3.0 * x[:-1, :1] for x in seen])
        np.savez(
            folder / task.file, obs=np.concatenate(seen), acts=acts, rews=np.ones(length.sum()),
            terminal=np.ones(NUMBER, bool), indices=np.cumsum(length)[:-1],
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("experts") / "data")


def test_episodes_are_those_of_the_file_and_torques_the_nearest(data):
    for task in tasks().values():
        with np.load(data / task.file) as file:
            arrays = {name: file[name] for name in file}
        found = read_episodes(data, task)
        starts = np.concatenate([[0], arrays["indices"]])
        for i in (0, 4, NUMBER - 1):
            first = starts[i] + i  # one observation more than actions for each episode before
            np.testing.assert_array_equal(
                found.observation[i], arrays["obs"][first : first + HORIZON + 1]
            )
            acts = arrays["acts"][starts[i] : starts[i] + HORIZON]
            wanted = acts if task.actions is None else np.round(np.clip(acts[:, 0], -2, 2)) + 2
            np.testing.assert_array_equal(found.action[i], wanted)
        np.testing.assert_array_equal(found.returns, HORIZON)


def test_what_is_shown_are_steps_of_the_expert_in_their_own_units(data):
    task = tasks()["pendulum"]
    episodes = read_episodes(data, task)
    draw = jax.jit(lambda key, left: (lambda s: (s.demonstrations, s.mean, s.deviation))(
        show(task, episodes, key, left, 0.9)
    ))  # fmt: skip
    shown, mean, deviation = draw(jax.random.key(0), jnp.asarray(False))
    kept = np.asarray(shown.mask)
    assert kept.shape == (8, HORIZON) and (kept.sum(-1) == HORIZON / 5).all()
    np.testing.assert_allclose(shown.context[kept][:, :-1].mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(shown.context[kept][:, :-1].std(0), 1.0, rtol=1e-3)
    assert not shown.context[..., -1].any() and not shown.final[..., -1].any()
    np.testing.assert_array_equal(shown.discount, np.float32(0.9))
    raw = np.asarray(shown.context[..., :-1] * deviation + mean)
    first = {tuple(np.round(x, 3)): i for i, x in enumerate(episodes.observation[:, 0])}
    chosen = [first[tuple(np.round(x, 3))] for x in raw[:, 0]]
    assert len(set(chosen)) == 8
    np.testing.assert_allclose(raw, episodes.observation[chosen, :-1], atol=1e-4)
    np.testing.assert_array_equal(shown.action, episodes.action[chosen])
    pushed = draw(jax.random.key(0), jnp.asarray(True))
    assert not pushed[0].action.any()
    np.testing.assert_array_equal(pushed[0].mask, shown.mask)
    np.testing.assert_array_equal(pushed[1], mean)
    # its torque of -2 Nm turns it the one way, from states in which the episodes of the task begin
    assert (np.diff(np.asarray(pushed[0].context[:, :4, 2]), axis=-1) < 0).mean() > 0.3
    other = draw(jax.random.key(1), jnp.asarray(False))[0]
    assert (other.context != shown.context).any()


def test_a_pole_that_is_pushed_left_falls_and_stays_down(data):
    task = tasks()["cartpole"]
    episodes = read_episodes(data, task)
    make = jax.jit(lambda key: show(task, episodes, key, jnp.asarray(True), 0.9).demonstrations)
    shown = make(jax.random.key(0))
    down = np.asarray(shown.context[0, :, -1])
    assert down[:8].sum() == 0 and (down[12:] == 1).all()
    assert not shown.context[0, 12:, :-1].any()


def test_a_clone_of_all_episodes_knows_the_rule_in_the_tasks_units(data):
    config = replace(
        CONFIG, seeds=2, control_seeds=2, episodes=2,
        whole=CloningConfig(snapshots=4, between=100, learning_rate=0.01, train_share=0.9),
    )  # fmt: skip
    task = tasks()["cartpole"]
    episodes = read_episodes(data, task)
    asked, value = clone_of_all(config, task, episodes)
    assert value.shape == (2,)
    world = World(config, task, episodes, asked)
    lane = Lane(jnp.asarray(0), jnp.asarray(False), jnp.asarray(0))
    shown, _ = world.shown(lane, 1.0)
    seen = shown.demonstrations.context.reshape(-1, 5)
    said = jax.jit(jax.vmap(lambda x: asked(shown.raw(x), None)[0]))(seen)
    assert (said == (shown.raw(seen)[:, 2] > 0)).mean() > 0.93


def test_arms_are_told_apart():
    """What a lane is given comes back under the name of its arm."""
    config = replace(CONFIG, seeds=3, control_seeds=2)
    told = lambda world, lane: (
        100.0 * lane.form + 10.0 * lane.pushes_left + lane.seed,
        jnp.full(POINTS, 0.5),
    )
    found = learned(told, None, rows_of(config, "adversarial"))
    assert {name: rows[:, 0].tolist() for name, rows in found.items()} == {
        "GAIL": [0, 1, 2],
        "FAIRL": [100, 101, 102],
        "GAIL, opposite sign": [200, 201],
        "GAIL, constant reward": [300, 301],
        "GAIL, shown pushes to the left": [10, 11],
    }
    assert found["FAIRL"].shape == (3, 1 + POINTS)
    assert [arm[0] for arm in rows_of(config, "DAgger")] == ["DAgger"]
    assert [arm[0] for arm in rows_of(config, "AIRL")] == ["AIRL", "AIRL, shown pushes to the left"]


def test_the_summary_is_of_the_seeds():
    config = replace(CONFIG, seeds=3, control_seeds=2)
    rows = lambda *values: np.tile(np.array(values, float)[:, None], 1 + POINTS)
    measured = {
        "behaviour cloning": rows(1.0, 2.0, 3.0),
        "behaviour cloning, shown pushes to the left": rows(0.0, 0.5),
        "DAgger": rows(5.0, 6.0, 8.0), "SQIL": rows(4.0, 4.0, 4.0), "IQ-Learn": rows(2.0, 1.0, 1.5),
        "GAIL": rows(9.0, 10.0, 11.0), "FAIRL": rows(1.0, 0.0, 2.0), "AIRL": rows(7.0, 9.0, 8.0),
        "GAIL, opposite sign": rows(1.0, 4.0), "GAIL, constant reward": rows(0.0, 2.0),
    }  # fmt: skip
    measured["DAgger"][0, 2] = np.nan  # no episode ended there
    found = summarise(config, np.array([9.0, 11.0]), np.array([8.0, 9.0, 10.0]), measured)
    estimates = lambda part: {name: value.estimate for name, value in found[part].items()}
    assert found["expert"].estimate == 10.0 and found["asked"].estimate == 9.0
    assert set(found["methods"]) == {
        "behaviour cloning", "DAgger", "SQIL", "IQ-Learn", "GAIL", "FAIRL", "AIRL"
    }  # fmt: skip
    assert estimates("margins")["GAIL"] == 8.0 and estimates("margins")["FAIRL"] == -1.0
    assert estimates("losses") == {
        "behaviour cloning, shown pushes to the left": -1.25,
        "GAIL, opposite sign": -7.0,
        "GAIL, constant reward": -8.5,
    }
    assert set(found["p"]) == set(found["margins"]) == set(found["methods"]) - {"behaviour cloning"}
    assert len(found["curves"]["DAgger"]) == len(found["steps"]["DAgger"]) == POINTS - 1
    assert len(found["curves"]["SQIL"]) == POINTS
    assert found["steps"]["GAIL"][0] == CONFIG.policy.steps / POINTS / 2


@pytest.mark.slow
def test_the_whole_in_small(data, tmp_path, capsys):
    config = replace(
        CONFIG, data=data, run_dir=tmp_path / "run", tasks=("cartpole",), seeds=2, control_seeds=2,
        episodes=2, cloning=CloningConfig(snapshots=2, between=2),
        whole=CloningConfig(snapshots=2, between=2),
        dagger=replace(CONFIG.dagger, rounds=2, updates=2),
        soft=replace(CONFIG.soft, steps=1600, updates=1),
        offline=replace(CONFIG.offline, updates=2),
        policy=replace(CONFIG.policy, steps=6400, environments=4, unroll=100),
    )  # fmt: skip
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    found = summary["tasks"]["cartpole"]
    assert found["expert"] == [200.0, 200.0, 200.0]
    assert list(found["methods"]) == [
        "behaviour cloning", "DAgger", "SQIL", "IQ-Learn", "IQ-Learn, offline", "GAIL", "FAIRL",
        "AIRL",
    ]  # fmt: skip
    html = (config.run_dir / "report.html").read_text()
    assert html.count("<figure>") == 2 and "GAIL, opposite sign" in html
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "data: no directory of episodes"),
        ({"tasks": ("pong",)}, "tasks: no pong; they are cartpole, pendulum"),
        ({"data": Path("none")}, r"cartpole\.npz: no such file"),
    ],
)
def test_bad_input(change, message, data, tmp_path):
    config = replace(CONFIG, data=data, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match=message):
        main(replace(config, **change))
    assert not (tmp_path / "run").exists()


def test_files_that_are_none(data, tmp_path):
    pole = tasks()["cartpole"]
    with np.load(data / pole.file) as file:
        arrays = dict(file)
    (tmp_path / pole.file).write_bytes((data / "pendulum.npz").read_bytes())
    with pytest.raises(InputError, match="is of another task"):
        read_episodes(tmp_path, pole)
    np.savez(tmp_path / pole.file, **{k: v for k, v in arrays.items() if k != "acts"})
    with pytest.raises(InputError, match="has no acts"):
        read_episodes(tmp_path, pole)
    short = arrays | {"indices": np.array([50, *arrays["indices"][1:]])}
    np.savez(tmp_path / pole.file, **short)
    with pytest.raises(InputError, match="fewer than 200 steps"):
        read_episodes(tmp_path, pole)
    with pytest.raises(InputError, match=r"^control_seeds"):
        replace(CONFIG, control_seeds=1)
