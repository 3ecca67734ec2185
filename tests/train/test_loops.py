import signal
import threading
from dataclasses import replace
from functools import partial

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.rewards.composite import CompositeReward
from irl_jax.rewards.contract import of_group
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.keys import Draw, Stage, loop_key, stage_key
from irl_jax.train.offline import train_offline
from irl_jax.train.online import (
    Judged,
    dynamic_sampling,
    fill_groups,
    judge,
    train_online,
)
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, LoopContext, Loss, Rewarded
from tests.train import toy
from tests.train.cases import assert_same_bits
from tests.train.compilations import count_compilations

ZEROS = np.zeros((8, 4), np.float32)
KINDS = pytest.mark.parametrize("kind", ["fit", "improve"])


@pytest.fixture(scope="module")
def built():
    """Each kind's step, compiled once for the module, and fresh states and data."""
    steps = {kind: toy.build(kind)[0] for kind in ("fit", "improve")}
    return lambda kind: (steps[kind], *toy.build(kind)[1:])


def steps_of(run, stage):
    return [row["step"] for row in run.metrics() if row["stage"] == stage]


STAGE = {"fit": "train", "improve": "policy"}


@KINDS
def test_resumed_is_uninterrupted(kind, built, tmp_path):
    straight = toy.train(kind, *built(kind), steps=12)
    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "save_every": 5}
        toy.train(kind, *built(kind), steps=7, **options)
        assert steps_of(run, STAGE[kind]) == list(range(1, 8))
        step, state, data = built(kind)
        run.log(8, {"loss": 0.0}, STAGE[kind])  # as if killed after update 8, saved at 7
        resumed = toy.train(kind, step, state, data, steps=12, **options)
        assert steps_of(run, STAGE[kind]) == list(range(1, 13))
        assert checkpoints.latest_step() == 12
        again = toy.train(kind, *built(kind), steps=12, **options)
        assert steps_of(run, STAGE[kind]) == list(range(1, 13))
    assert_same_bits(resumed, straight)
    assert_same_bits(again, straight)
    assert not np.array_equal(*(jax.tree.leaves(s.params)[0] for s in (straight, built(kind)[1])))


def test_resumed_is_uninterrupted_with_several_updates_a_rollout(tmp_path):
    built = toy.build("improve", epochs=2)
    fresh = lambda: (built[0], *toy.build("improve", epochs=2)[1:])
    straight = toy.train("improve", *fresh(), steps=6)
    with Checkpointer(tmp_path, {}) as checkpoints:
        toy.train("improve", *fresh(), steps=4, checkpoints=checkpoints)
        resumed = toy.train("improve", *fresh(), steps=6, checkpoints=checkpoints)
    assert_same_bits(resumed, straight)
    assert int(resumed.step) == 6  # rollouts
    assert int(resumed.opt_state[0].count) == 6 * 2 * 2  # updates


@KINDS
@pytest.mark.parametrize("signum, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops(kind, signum, status, built, tmp_path, capsys):
    step, state, data = built(kind)
    calls = 0

    def signalled(*arguments):
        nonlocal calls
        calls += 1
        if calls == 6:
            signal.raise_signal(signum)
        return step(*arguments)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "steps": 12}
        with pytest.raises(SystemExit) as stopped:
            toy.train(kind, signalled, state, data, **options)
        assert stopped.value.code == status
        assert calls == 6 and steps_of(run, STAGE[kind]) == list(range(1, 7))
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
        assert checkpoints.latest_step() == 6
        assert "stopped after update 6, saved; the same command goes on" in capsys.readouterr().err
        resumed = toy.train(kind, *built(kind), **options)
    assert_same_bits(resumed, toy.train(kind, *built(kind), steps=12))


def test_a_signal_during_a_rollout_drops_the_rollout(built, tmp_path):
    step, state, data = built("improve")
    calls = 0

    def rollout(*arguments):
        nonlocal calls
        calls += 1
        if calls == 6:
            signal.raise_signal(signal.SIGTERM)
        return toy.rollout(*arguments)

    judged = []
    reward = lambda group, context: judged.append(1) or toy.reward(group)
    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "steps": 12}
        with pytest.raises(SystemExit) as stopped:
            train_online(step, state, data, rollout=rollout, reward=reward, **options)
        assert stopped.value.code == 143
        assert len(judged) == 5 and checkpoints.latest_step() == 5
        assert steps_of(run, "policy") == [1, 2, 3, 4, 5]
        resumed = toy.train("improve", *built("improve"), **options)
    assert_same_bits(resumed, toy.train("improve", *built("improve"), steps=12))


def total(params):
    return sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(params))


@KINDS
def test_evaluations_come_before_the_updates_and_after_the_last(kind, built, tmp_path):
    """Also when the run is killed after one was made, and goes on: it is made again."""
    step, state, data = built(kind)
    seen, calls = [], []

    def evaluate(context):
        seen.append((context.done, total(context.params)))
        assert context.progress == context.done / 8
        return {"total": seen[-1][1]} if context.done != 3 else None

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return step(*arguments)

    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "save_every": 6, "steps": 8}
        options |= {"evaluate": evaluate, "evaluate_every": 3}
        with pytest.raises(KeyboardInterrupt):
            toy.train(kind, killed, state, data, **options)
        assert steps_of(run, STAGE[kind]) == list(range(1, 7))
        state = toy.train(kind, *built(kind), **options)
        assert steps_of(run, STAGE[kind]) == list(range(1, 9))
        stage = f"{STAGE[kind]} evaluation"
        rows = [(row["step"], row["total"]) for row in run.metrics() if row["stage"] == stage]
    straight = {n: toy.train(kind, *built(kind), steps=n) for n in (0, 3, 6, 8)}
    assert seen == [(n, total(straight[n].params)) for n in (0, 3, 6, 6, 8)]
    assert len({value for _, value in seen}) == 4
    assert rows == [(n, total(straight[n].params)) for n in (0, 6, 8)]
    assert_same_bits(state, straight[8])
    ends = []
    toy.train(kind, *built(kind), steps=4, evaluate=lambda context: ends.append(context.done))
    assert ends == [0, 4]


def test_functions_of_the_wrong_signature_fail_before_any_work():
    """Nothing is sampled, nothing restored: neither step nor state are looked at."""
    good = {"rollout": toy.rollout, "reward": toy.judged}
    bound = partial(lambda group, key, context: group, key=1)
    bad = {
        "rollout": (
            lambda params, key: None,
            r"\(params, prompts, key\), but takes \(params, key",
        ),
        "reward": (
            toy.reward,
            r"\(group, context\), but takes \(group\): .*of_group\(rew",
        ),
        "prepare": (bound, r"takes \(group, \*, key=1, context\): .*; give its other arguments"),
        "observe": (lambda update: {}, r"observe\(group, context\), but takes \(update\)"),
        "evaluate": (lambda: None, r"evaluate\(context\), but takes \(\): too many"),
    }
    for name, (function, message) in bad.items():
        with pytest.raises(InputError, match=message):
            train_online(None, None, iter([]), steps=1, **(good | {name: function}))
    with pytest.raises(InputError, match=r"evaluate_every: expected 0 or more updates, got -1"):
        train_offline(None, None, iter([]), steps=1, evaluate_every=-1)


def test_a_key_that_is_bound_stays(built):
    """Arguments are given by position: none that has a name is overwritten."""
    keys = []
    own = jax.random.key(9)
    prepare = partial(lambda group, context, *, key: keys.append(key) or group, key=own)
    train_online(*built("improve"), rollout=toy.rollout, reward=toy.judged, steps=2,
            prepare=prepare)  # fmt: skip
    assert keys == [own, own]


def test_what_a_reward_says_reaches_the_metrics_and_what_follows(built, tmp_path):
    """Under jit, too."""

    @jax.jit
    def reward(group, context):
        right = (group.action[..., 0] == group.context[:, None]).astype(jnp.float32)
        return Rewarded(right + 1, {"right": right}, {"done": 1.0 * context.done})

    prepared = jax.jit(
        lambda group, context: group.replace(
            reward=context.parts["right"] + context.metrics["done"] + 1 - context.done
        )
    )
    seen = []
    with RunDirectory(tmp_path, {}) as run:
        state = train_online(
            *built("improve"),
            rollout=toy.rollout,
            reward=reward,
            prepare=prepared,
            observe=lambda group, context: seen.append(context) or {},
            steps=3,
            run=run,
        )
        rows = run.metrics()
    for row, context in zip(rows, seen, strict=True):
        assert row["reward_right"] == float(context.parts["right"].mean()) == row["reward"] - 1
        assert row["done"] == row["step"] - 1 == context.done == float(context.metrics["done"])
    straight = train_online(
        *built("improve"),
        rollout=toy.rollout,
        reward=lambda group, context: reward(group, context).value,
        steps=3,
    )
    assert_same_bits(state, straight)


def test_a_second_interrupt_stops_at_once(built):
    step, state, data = built("fit")

    def signalled(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    with pytest.raises(KeyboardInterrupt):
        train_offline(signalled, state, data, steps=3)


def test_outside_the_main_thread_a_loop_just_runs(built):
    result = []
    thread = threading.Thread(target=lambda: result.append(train_offline(*built("fit"), steps=2)))
    thread.start()
    thread.join()
    assert int(result[0].step) == 2


@KINDS
def test_one_compilation_a_run(kind, tmp_path):
    parts = toy.build(kind)
    with (
        RunDirectory(tmp_path, {}) as run,
        Checkpointer(run.checkpoints, {}) as checkpoints,
        count_compilations() as counts,
    ):
        options = {"run": run, "checkpoints": checkpoints, "save_every": 2}
        toy.train(kind, *parts, steps=5, **options)
        step, (_, state, data) = parts[0], toy.build(kind)
        toy.train(kind, step, state, data, steps=9, **options)  # restored arrays are alike
    assert counts["jit(step)"] == 1, counts
    assert counts["jit(rollout)"] <= 1, counts


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(built, tmp_path):
    step, state, data = built("fit")

    def poisoned(state, batch):
        state, metrics = step(state, batch)
        return state, metrics | {"loss": jnp.where(state.step == 6, jnp.nan, metrics["loss"])}

    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        options = {"run": run, "checkpoints": checkpoints, "save_every": 3, "steps": 12}
        with pytest.raises(InputError, match=r"train: loss is nan in update 6; .*learning rate"):
            train_offline(poisoned, state, data, **options)
        assert checkpoints.latest_step() == 3  # a checkpoint was due after update 6
        assert steps_of(run, "train") == [1, 2, 3, 4, 5]
        bad = lambda state, batch: (state, {"loss": jnp.inf, "grad_norm": 1.0})
        with pytest.raises(InputError, match=r"in update 1; probably the data or the first param"):
            train_offline(bad, built("fit")[1], data, steps=2)


def test_a_reward_that_is_not_finite_names_the_completion(built):
    def reward(group, context):
        value = toy.reward(group)
        value[3, 2] = np.nan
        return value

    step, state, data = built("improve")
    with pytest.raises(InputError, match=r"1 of 32 .* update 1, first .* completion 2 of prompt 3"):
        train_online(step, state, data, rollout=toy.rollout, reward=reward, steps=2)
    assert not jax.tree.leaves(state.params)[0].is_deleted()  # no update was made


@pytest.mark.parametrize(
    "reward, message",
    [
        (lambda group: np.zeros(8, np.float32), r"reward: expected shape \[8, 4\], got \[8\]"),
        (lambda group: np.zeros((8, 4), int), "reward: expected a floating dtype"),
        (lambda group: [[0.0] * 4] * 8, "reward: expected an array, got a list; make it one with"),
        (lambda group: None, "reward: expected an array, got a NoneType"),
        (lambda group: np.full((8, 4), "a"), "reward: expected an array, got a ndarray of <U1"),
        (lambda group: (np.zeros((8, 4)),) * 3, "got a tuple; return Rewarded\\(value, parts"),
        (lambda group: Rewarded(ZEROS, ZEROS), "reward: its parts are a ndarray, not a dict"),
        (lambda group: Rewarded(ZEROS, {"a": [1.0]}), "reward 'a': expected an array, got a list"),
        (
            lambda group: Rewarded(ZEROS, {"a": ZEROS[0]}),
            r"'a': expected shape \[8, 4\], got",
        ),
        (lambda group: Rewarded(ZEROS, {}, [1.0]), "reward: its metrics are a list, not a dict"),
        (lambda group: Rewarded(ZEROS, {}, {"a": ZEROS[0]}), r"metric 'a' has shape \[4\], is no"),
    ],
)
def test_rewards_of_the_wrong_kind_are_refused(reward, message, built):
    step, state, data = built("improve")
    with pytest.raises(InputError, match=message):
        train_online(step, state, data, rollout=toy.rollout, reward=of_group(reward), steps=2)


def test_improvement_observes_prepares_and_reports(built, tmp_path):
    step, state, data = built("improve")
    prepared = []

    def prepare(group, context):
        prepared.append(group)
        return group

    with RunDirectory(tmp_path, {}) as run:

        def observe(group, context):
            run.sample(context.update, {"action": group.action[0, 0]}, "policy")
            return {"gold": context.update / 10}

        train_online(
            step,
            state,
            data,
            rollout=toy.rollout,
            reward=toy.judged,
            steps=40,
            prepare=prepare,
            observe=observe,
            run=run,
        )
        rows = run.metrics()
        assert [row["gold"] for row in rows[:2]] == [0.1, 0.2]
        assert len(run.samples()) == 40 and len(prepared) == 40
    for row, group in zip(rows, prepared, strict=True):
        assert row["reward"] == pytest.approx(float(group.reward.mean()))
        assert row["length"] == 1 and row["terminated"] == 1
    mean = lambda rows: np.mean([row["reward"] for row in rows])
    assert mean(rows[-10:]) > mean(rows[:10]) + 0.3  # from 1/5 towards 1


def group_of(rewards):
    """Prompts numbered from 0, with these rewards of their completions."""
    rewards = np.float32(rewards)
    mask = np.ones([*rewards.shape, 1], bool)
    number = np.arange(len(rewards))
    action = np.broadcast_to(number[:, None, None], mask.shape)
    return Group(number, action, mask, np.float32(mask), rewards, mask[..., 0])


def test_prompts_that_teach_nothing_are_replaced_in_order():
    group = group_of([[0, 0], [0, 1], [1, 1], [1, 1]])
    more = group_of([[2, 2], [2, 3], [4, 4], [5, 6]])
    judged = [Judged(g, {"double": 2 * g.reward}, g.reward) for g in (group, more)]
    filled, parts, _ = fill_groups(*judged)
    assert np.asarray(parts["double"]).tolist() == (2 * np.asarray(filled.reward)).tolist()
    assert np.asarray(filled.reward).tolist() == [[2, 3], [0, 1], [5, 6], [1, 1]]
    assert np.asarray(filled.context).tolist() == [1, 1, 3, 3]
    assert np.asarray(filled.action)[:, 0, 0].tolist() == [1, 1, 3, 3]


def test_collecting_stops_when_all_teach_something_or_at_the_limit():
    rounds = [[[0, 0], [0, 0], [0, 1]], [[3, 4], [3, 3], [4, 4]], [[5, 5], [6, 7], [8, 9]]]

    def attempt(i):
        group = group_of(rounds[i])
        return Judged(group, {"half": group.reward / 2}, group.reward), {"number": float(i)}

    group, said, metrics = dynamic_sampling(attempt, 5)
    assert np.asarray(group.reward).tolist() == [[3, 4], [6, 7], [0, 1]]
    assert (metrics["rollouts"], metrics["has_signal"], metrics["number"]) == (3, 1, 0.0)
    assert metrics["reward_half"] == np.mean(rounds[0]) / 2  # of what was sampled first
    assert np.asarray(said["parts"]["half"]).tolist() == (np.asarray(group.reward) / 2).tolist()
    assert said["metrics"] == {"number": 0.0}
    group, _, metrics = dynamic_sampling(attempt, 1)
    assert np.asarray(group.reward).tolist() == [[3, 4], [0, 0], [0, 1]]
    assert (metrics["rollouts"], float(metrics["has_signal"])) == (2, pytest.approx(2 / 3))
    assert "rollouts" not in dynamic_sampling(attempt, 0)[2]


def test_what_teaches_is_decided_by_the_part_that_is_named():
    """Eq. 11 of DAPO, 0 < |right| < K, by loops; the form differs within every group."""
    rng = np.random.default_rng(0)
    rounds = [rng.integers(0, 2, [6, 2]), rng.integers(0, 2, [6, 2])]
    form = np.tile(np.float32([0, 1]), [6, 1])
    parts = {"right": lambda g: jnp.float32(g.logp[..., 0]), "form": lambda g: jnp.float32(form)}
    weights = {"right": 1.0, "form": 0.1}
    reward = CompositeReward({k: (of_group(f), weights[k]) for k, f in parts.items()})
    context = LoopContext(0, 0.0, None, jax.random.key(0))

    def attempt(i, decides):
        group = replace(group_of(form), logp=np.float32(rounds[i])[..., None])
        return judge(group, reward, context, "policy", decides=decides)

    kept, _, metrics = dynamic_sampling(lambda i: attempt(i, "right"), 1)
    spare = [row for row in rounds[1].tolist() if 0 < sum(row) < 2]
    expected, replaced = [], 0
    for row in rounds[0].tolist():
        if not 0 < sum(row) < 2 and replaced < len(spare):
            row, replaced = spare[replaced], replaced + 1
        expected.append(row)
    assert 0 < replaced < 6
    assert kept.logp[..., 0].tolist() == expected
    np.testing.assert_allclose(kept.reward, np.float32(expected) + 0.1 * form, rtol=1e-6)
    assert metrics["has_signal"] == pytest.approx(np.mean([0 < sum(row) < 2 for row in expected]))
    assert metrics["rollouts"] == 2

    first, _, metrics = dynamic_sampling(
        lambda i: attempt(i, None), 1
    )  # the whole reward: all are kept
    assert first.logp[..., 0].tolist() == rounds[0].tolist()
    assert (metrics["rollouts"], metrics["has_signal"]) == (1, 1)

    for named, has in ((reward, "right, form"), (of_group(parts["right"]), "none")):
        with pytest.raises(InputError, match=f"decides: no part .* 'correct'; it has {has}"):
            judge(group_of(form), named, context, "policy", decides="correct")


def test_a_loop_replaces_prompts_by_the_part_that_is_named(built):
    """No answer is right, and the form differs in every group."""
    wrong = lambda group, context: jnp.zeros(group.mask.shape[:2])
    varied = lambda group, context: jnp.broadcast_to(jnp.arange(float(toy.K)), group.mask.shape[:2])
    reward = CompositeReward({"right": (wrong, 1.0), "form": (varied, 0.1)})
    drawn = {None: 0, "right": 0}
    for decides in drawn:

        def rollout(*arguments, decides=decides):
            drawn[decides] += 1
            return toy.rollout(*arguments)

        train_online(*built("improve"), rollout=rollout, reward=reward, steps=2, resample=2,
                decides=decides)  # fmt: skip
    assert drawn == {None: 2, "right": 6}


def test_resumed_is_uninterrupted_when_prompts_are_replaced(built, tmp_path):
    """Also when stopped while it draws for the second time in an update."""
    options = {"rollout": toy.rollout, "reward": toy.judged, "resample": 3, "steps": 8}
    straight = train_online(*built("improve"), **options)
    calls = 0

    def rollout(*arguments):
        nonlocal calls
        calls += 1
        if calls == 6:
            signal.raise_signal(signal.SIGTERM)
        return toy.rollout(*arguments)

    with RunDirectory(tmp_path, {}) as run, Checkpointer(run.checkpoints, {}) as checkpoints:
        saved = {"run": run, "checkpoints": checkpoints}
        with pytest.raises(SystemExit):
            train_online(*built("improve"), **(options | {"rollout": rollout}), **saved)
        assert checkpoints.latest_step() < 5  # some update took more than one rollout
        resumed = train_online(*built("improve"), **options, **saved)
        rollouts = [row["rollouts"] for row in run.metrics()]
    assert len(rollouts) == 8 and max(rollouts) > 1
    assert_same_bits(resumed, straight)


def test_several_rewards_are_logged_and_may_see_the_progress(built, tmp_path):
    late = lambda group, context: np.full(group.mask.shape[:2], context.progress, np.float32)
    reward = CompositeReward({"right": (toy.judged, 1.0), "late": (late, 4.0)})
    prepared, keys = [], []
    bits = lambda key: tuple(jax.random.key_data(key).tolist())

    def prepare(group, context):
        assert context.parts["late"].tolist() == late(group, context).tolist()
        prepared.append(float(context.params["logits"].sum()))
        keys.append(bits(context.key))
        return group

    step, state, data = built("improve")
    rollouts = {bits(loop_key(state.key, Draw.ROLLOUT, n)) for n in range(4)}
    with RunDirectory(tmp_path, {}) as run:
        train_online(step, state, data, rollout=toy.rollout, reward=reward, steps=4, run=run,
                prepare=prepare)  # fmt: skip
        rows = run.metrics()
    assert [row["reward_late"] for row in rows] == [0, 0.25, 0.5, 0.75]
    for row in rows:
        assert row["reward"] == pytest.approx(row["reward_right"] + 4 * row["reward_late"])
    assert prepared[0] == 0 and len(prepared) == len(set(keys)) == 4
    assert not rollouts & set(keys)

    nan = lambda group, context: np.full(group.mask.shape[:2], np.nan, np.float32)
    bad = CompositeReward({"right": (toy.judged, 1.0), "bad": (nan, 0.0)})
    with pytest.raises(InputError, match="reward 'bad' is not finite for 32 of 32"):
        train_online(*built("improve"), rollout=toy.rollout, reward=bad, steps=1)


def test_no_two_draws_share_bits(built):
    """What is called in an update, also when prompts are replaced, and the update itself."""
    seen = []
    step, state, data = built("improve")
    key = jax.random.key(2)

    def note(key):
        seen.append(tuple(np.asarray(jax.random.key_data(key))))

    def rollout(params, contexts, key):
        note(key)
        return toy.rollout(params, contexts, key)

    def useless(group, context):
        note(context.key)
        return np.zeros(group.mask.shape[:2], np.float32)

    hooks = {
        "prepare": lambda group, context: note(context.key) or group,
        "observe": lambda group, context: note(context.key) or {},
        "evaluate": lambda context: note(context.key),
    }
    train_online(step, state, data, rollout=rollout, reward=useless, steps=5, resample=2,
            evaluate_every=1, **hooks)  # fmt: skip
    assert len(seen) == 5 * (2 * 3 + 2) + 6
    for i in range(5):
        note(jax.random.fold_in(key, i))
    assert len(set(seen)) == len(seen)


def test_purposes_have_the_numbers_that_figures_were_made_with():
    assert [*Stage] == [1, 2, 3, 4]
    assert (Draw.ROLLOUT, Draw.PREPARE) == (0x726F6C6C, 0x70726570)
    key = jax.random.key(3)
    twice = jax.random.fold_in(jax.random.fold_in(key, 0x726F6C6C + 2), 5)
    assert loop_key(key, Draw.ROLLOUT, 5, 2) == twice
    assert stage_key(3, Stage.POLICY) == jax.random.fold_in(key, 2)


def test_data_that_ends_or_cannot_be_resumed_is_refused(built, tmp_path):
    step, state, data = built("fit")
    few = iter([next(data), next(data)])
    with pytest.raises(InputError, match="the data ended after 2 of 5 updates"):
        train_offline(step, state, few, steps=5)
    with (
        Checkpointer(tmp_path, {}) as checkpoints,
        pytest.raises(InputError, match="iterator with get_state and set_state"),
    ):
        train_offline(step, built("fit")[1], iter([]), steps=5, checkpoints=checkpoints)
    with pytest.raises(InputError, match="save_every: expected at least 1"):
        train_offline(step, built("fit")[1], data, steps=5, save_every=0)


def test_grain_iterators_resume(built, tmp_path):
    """What `irl_jax.data` feeds: shuffled, repeated, batched, prefetched."""
    rows = [
        {k: v[0] for k, v in toy.regression(np.random.default_rng(i)).items()} for i in range(20)
    ]

    def batches():
        data = grain.MapDataset.source(rows).shuffle(seed=3).repeat().batch(8)
        return iter(data.to_iter_dataset())

    step, state, _ = built("fit")
    straight = train_offline(step, state, batches(), steps=9)
    with Checkpointer(tmp_path, {}) as checkpoints:
        train_offline(step, built("fit")[1], batches(), steps=4, checkpoints=checkpoints)
        resumed = train_offline(step, built("fit")[1], batches(), steps=9, checkpoints=checkpoints)
    assert_same_bits(resumed, straight)


def test_metrics_are_read_one_update_late(built):
    """The loop hands over update n + 1 before it waits for update n."""
    events = []

    class Slow:
        def __init__(self, n):
            self.n = n

        def __float__(self):
            events.append(f"read {self.n}")
            return 1.0

    def step(state, batch):
        n = int(state.step) + 1
        events.append(f"begin {n}")
        return state.replace(step=state.step + 1), {"loss": Slow(n), "grad_norm": 1.0}

    train_offline(step, built("fit")[1], built("fit")[2], steps=3)
    assert events == ["begin 1", "begin 2", "read 1", "begin 3", "read 2", "read 3"]


def test_objective_of_ones_own():
    """The README's promise: a loss is a function, and a loop takes it as it is."""
    import optax

    from irl_jax.models.mesh import make_mesh
    from irl_jax.train.shard import jit_step, place
    from irl_jax.train.state import init_state
    from irl_jax.train.step import make_train_step

    def objective(params, batch, key):
        return Loss(jnp.sum((params - batch) ** 2), jnp.float32(batch.size), {})

    tx, mesh = optax.sgd(0.5), make_mesh(1)
    state = place(mesh, init_state(jnp.float32(0.0), tx, jax.random.key(0)))
    step = jit_step(make_train_step(objective, tx), mesh, state)
    state = train_offline(step, state, iter([np.float32([1, 2, 3])]), steps=1)
    assert float(state.params) == 2.0
