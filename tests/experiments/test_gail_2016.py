"""The table of GAIL: experts, demonstrations of them, cloning, and the whole in small."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gail_2016.config import CONFIG, DiscriminatorConfig
from experiments.gail_2016.learners import Setting, prepare
from experiments.gail_2016.study import main, summarise
from experiments.gail_2016.tasks import (
    demonstrate,
    expert_act,
    expert_logits,
    read_expert,
    read_results,
    tasks,
)
from irl_jax.envs.environment import fixed_horizon
from irl_jax.recipes.cloning import CloningConfig
from irl_jax.recipes.control import PPOConfig
from irl_jax.types import InputError

NUMBERS = (1, 2)


def write(folder: Path) -> Path:
    """Results and experts in the form of the data, all made up."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        {
            "task": name, "algorithm": algorithm, "demonstrations": number, "run": run,
            "mean_return": 10.0 * number + run, "expert_return": 50.0,
        }
        for name in tasks() for algorithm in ("bclone", "ga") for number in NUMBERS
        for run in range(3)
    ]  # fmt: skip
    (folder / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    for task in tasks().values():
        d, a = task.env.observation[0], task.env.action
        sizes = {"w0": (d, 8), "b0": 8, "w1": (8, 8), "b1": 8, "w2": (8, a), "b2": a}
        mean = rng.normal(size=d)
        arrays = {name: rng.normal(size=size) for name, size in sizes.items()}
        moments = {"obs_mean": mean, "obs_meansq": mean**2 + rng.uniform(0.5, 2.0, d)}
        np.savez(folder / task.expert, **arrays, **moments)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gail") / "data")


@pytest.fixture(scope="module")
def pole(data):
    """CartPole of 12 steps, and its expert."""
    task = tasks()["cartpole"]
    expert = jax.tree.map(jnp.asarray, read_expert(data, task))
    return replace(task.env, time_limit=12), expert


def test_tasks_are_those_of_the_authors():
    found = {name: (task.every, task.b, task.env.time_limit) for name, task in tasks().items()}
    assert found == {
        "cartpole": (10, 0.0, 200), "mountaincar": (5, 1.0, 200), "acrobot": (5, 1.0, 200)
    }  # fmt: skip
    state = jnp.array([0.1, -0.2, 0.3, 0.4])
    np.testing.assert_array_equal(tasks()["acrobot"].env.observe(state), state)


def test_the_logits_of_an_expert_are_those_of_its_file(data):
    task = tasks()["acrobot"]
    with np.load(data / task.expert) as file:
        arrays = {name: file[name] for name in file}
    seen = np.array([0.5, -1.0, 2.0, 0.1])
    deviation = np.sqrt(arrays["obs_meansq"] - arrays["obs_mean"] ** 2)
    x = [(o - m) / s for o, m, s in zip(seen, arrays["obs_mean"], deviation, strict=True)]
    for w, b in (("w0", "b0"), ("w1", "b1")):
        x = [np.tanh(np.dot(x, arrays[w][:, j]) + arrays[b][j]) for j in range(8)]
    wanted = [np.dot(x, arrays["w2"][:, j]) + arrays["b2"][j] for j in range(3)]
    found = expert_logits(read_expert(data, task), jnp.asarray(seen, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_an_expert_acts_by_its_logits_or_pushes_left(pole):
    expert, seen = pole[1], jnp.array([0.3, 0.1, -0.1, 0.2])
    p = np.exp(jax.nn.log_softmax(expert_logits(expert, seen)))
    draw = lambda left: jax.jit(jax.vmap(partial(expert_act(expert, jnp.asarray(left)), seen)))
    action, logp = draw(False)(jax.random.split(jax.random.key(0), 4000))
    assert abs(np.mean(action) - p[1]) < 4.5 * np.sqrt(p[0] * p[1] / 4000)
    np.testing.assert_allclose(np.exp(logp), p[np.asarray(action)], rtol=1e-5)
    action, logp = draw(True)(jax.random.split(jax.random.key(0), 4))
    assert not action.any() and not logp.any()


def test_of_the_first_episode_one_step_in_a_few_is_kept(pole):
    """A cart that is always pushed left loses its pole after 8 to 11 steps, and begins anew."""
    env, expert = pole
    act = expert_act(expert, jnp.asarray(True))
    draw = jax.jit(lambda every, key: demonstrate(env, act, key, every, 16))
    whole, some = (draw(every, jax.random.key(0)) for every in (1, 3))
    length = whole.mask.sum(-1)
    assert length.min() >= 8 and length.max() <= 11
    ended = np.asarray(whole.discount) == 0
    np.testing.assert_array_equal(length, ended.argmax(-1) + 1)
    phases = set()
    for mask, steps in zip(np.asarray(some.mask), np.asarray(length), strict=True):
        kept = np.flatnonzero(mask)
        np.testing.assert_array_equal(kept, np.arange(kept[0], steps, 3))
        phases.add(int(kept[0]))
    assert phases == {0, 1, 2}
    fixed = jax.jit(lambda key: demonstrate(fixed_horizon(env), act, key, 1, 2))(jax.random.key(0))
    assert fixed.mask.all() and fixed.context[:, -1, -1].all()


def test_an_absorbing_state_that_is_not_shown_is_seen_as_one(pole):
    """No pole falls within five steps, so that nothing is known of how much the flag varies."""
    env, expert = pole
    env = fixed_horizon(replace(env, time_limit=5))
    setting = Setting(*map(jnp.asarray, (0, 1, 1, 0.5, False)))
    own = jax.jit(lambda state: prepare(CONFIG, env, expert, setting)[0].observe(state))
    lying = env.reset(jax.random.key(0))._replace(absorbed=jnp.asarray(True))
    assert float(own(lying)[-1]) == 1.0


def test_learners_of_a_seed_see_the_first_of_the_same_demonstrations_in_their_units(pole):
    env, expert = pole
    config = replace(CONFIG, demonstrations=(1, 3))
    given = lambda number, seed: Setting(
        jnp.asarray(seed), jnp.asarray(number), jnp.asarray(2), jnp.asarray(0.0), jnp.asarray(False)
    )
    make = jax.jit(lambda setting: prepare(config, env, expert, setting)[1:])
    units = jax.jit(lambda setting, x: prepare(config, env, expert, setting)[0].observe(x))
    one, all_three, other = make(given(1, 0)), make(given(3, 0)), make(given(3, 1))
    assert not one[0].mask[1:].any() and all_three[0].mask.any(-1).all()
    np.testing.assert_array_equal(one[0].mask[0], all_three[0].mask[0])
    np.testing.assert_array_equal(one[0].action, all_three[0].action)
    assert (jax.random.key_data(one[1]) == jax.random.key_data(all_three[1])).all()
    assert (one[0].context != other[0].context).any()
    kept = np.asarray(all_three[0].context)[np.asarray(all_three[0].mask)]
    np.testing.assert_allclose(kept.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(kept.std(0), 1.0, rtol=1e-2)
    a, b = units(given(3, 0), jnp.zeros(4)), units(given(3, 0), jnp.ones(4))
    states = np.asarray(a + (b - a) * 0.5)
    np.testing.assert_allclose(units(given(3, 0), 0.5 * jnp.ones(4)), states, rtol=1e-4, atol=1e-5)


def test_the_summary_is_of_the_seeds():
    own = {
        "expert": [[9.0, 11.0]], "bclone": [[1.0, 3.0], [2.0, 4.0], [0.0, 0.0]],
        "whole": [[5.0, 6.0]], "ga": [[4.0, 8.0], [5.0, 5.0], [7.0, 7.0]],
        "opposite": [[1.0, 1.0]], "fixed": [[8.0, 10.0], [3.0, 5.0]],
    }  # fmt: skip
    theirs = {"bclone": [np.array([1.0, 2.0])], "ga": [np.array([3.0, 5.0])]}
    found = summarise(theirs, {name: np.array(rows) for name, rows in own.items()})
    of = lambda *path: [interval.estimate for interval in path]
    assert of(found["expert"], found["whole"], found["fixed"], found["opposite"]) == [
        10.0, 5.5, 9.0, 1.0
    ]  # fmt: skip
    assert of(*found["ours"]["bclone"], *found["ours"]["ga"]) == [2.0, 3.0, 6.0, 5.0]
    assert of(*found["theirs"]["ga"]) == [4.0]
    assert of(*found["left"].values()) == [0.0, 7.0, 4.0]
    assert of(*found["margins"].values()) == [4.0, 3.5, -1.0, 5.0]


@pytest.mark.slow
def test_the_whole_in_small(data, tmp_path, capsys):
    config = replace(
        CONFIG, data=data, run_dir=tmp_path / "run", tasks=("mountaincar",),
        demonstrations=NUMBERS, seeds=2, episodes=2,
        cloning=CloningConfig(snapshots=2, between=2, widths=(4,)),
        discriminator=DiscriminatorConfig(widths=(4,)),
        policy=PPOConfig(steps=64, environments=4, unroll=8, widths=(4,)),
    )  # fmt: skip
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    found = summary["tasks"]["mountaincar"]
    assert [x[0] for x in found["theirs"]["ga"]] == [11.0, 21.0]
    assert len(found["ours"]["ga"]) == len(found["ours"]["bclone"]) == 2
    assert found["left"]["behaviour cloning"][0] == -200.0
    html = (config.run_dir / "report.html").read_text()
    assert html.count("<figure>") == 1 and "behaviour cloning, theirs" in html
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "data: no directory of results"),
        ({"tasks": ("pong",)}, "tasks: no pong; they are cartpole, mountaincar, acrobot"),
        ({"demonstrations": (3,)}, "no two runs of bclone on cartpole from 3"),
        ({"data": Path("none")}, r"results\.json: no such file"),
    ],
)
def test_bad_input(change, message, data, tmp_path):
    config = replace(CONFIG, data=data, run_dir=tmp_path / "run", demonstrations=NUMBERS)
    with pytest.raises(InputError, match=message):
        main(replace(config, **change))
    assert not (tmp_path / "run").exists()


def test_files_that_are_none(data, tmp_path):
    known = tasks()
    (tmp_path / "results.json").write_text('[{"task": "cartpole"}]')
    with pytest.raises(InputError, match=r"no list of results .*download it again"):
        read_results(tmp_path)
    (tmp_path / known["acrobot"].expert).write_bytes((data / "CartPole-v0.npz").read_bytes())
    with pytest.raises(InputError, match="is of another task"):
        read_expert(tmp_path, known["acrobot"])
    np.savez(tmp_path / known["cartpole"].expert, w0=np.zeros(3))
    with pytest.raises(InputError, match="has no b0"):
        read_expert(tmp_path, known["cartpole"])
    with pytest.raises(InputError, match="no such file"):
        read_expert(tmp_path, known["mountaincar"])
