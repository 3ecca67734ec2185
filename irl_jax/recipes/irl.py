"""`irl-jax irl`: a reward learned from demonstrations, and a policy for it, by turns.

The policy answers the prompts of demonstrations, a discriminator learns to tell its answers from
what was demonstrated, and what it says is the policy's reward: inverse reinforcement learning in
three steps, update after update (gail, fairl, f_max, airl, r_airl, raro). Or the policy learns
alone: spin prefers demonstrations to the answers of the policy of some updates before, and
iq_learn_online reads logits as a soft Q of demonstrations and answers; its reward is then
log π/π_ref, π_ref the model. Lines of `--data.path` hold `prompt` and `completion`. Prompts
that are held out measure both: how likely the demonstrations are, how well the policy's answers
are told from them, how much the answers differ, and `--gold`, where there is one. A reward of a
discriminator is kept: `irl-jax align --reward RUN` and `irl-jax score --model RUN` take it.

Examples:
    irl-jax irl --loss gail --data.path demonstrations.jsonl --model DIR

    irl-jax irl --loss spin --loss.every 100 --data.path demonstrations.jsonl --model DIR

    irl-jax irl --loss airl --data.path demonstrations.jsonl --gold rewards.py:my_reward

`irl-jax losses` lists the losses and their hyper-parameters.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from irl_jax.data.feeds import make_feed
from irl_jax.eval.diversity import distinct, self_bleu
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.models.mesh import fetch, global_batch
from irl_jax.recipes.align import compare, write_samples
from irl_jax.recipes.card import policy_card
from irl_jax.recipes.export import export_policy, exported_files
from irl_jax.recipes.irl_alone import Alone, begin_alone
from irl_jax.recipes.irl_config import IrlConfig
from irl_jax.recipes.irl_report import conclusion, write_report
from irl_jax.recipes.irl_training import Ready, Turns, begin, demonstrated, prepare, updates
from irl_jax.recipes.launch import Clock
from irl_jax.recipes.quality import implicit_rewards
from irl_jax.recipes.reward_model import IRL
from irl_jax.recipes.run_reward import reward_identity
from irl_jax.recipes.training import counts, held_out_losses, launch_loss, policy_start
from irl_jax.rollout.session import Completions, chunks
from irl_jax.train.adversarial import learned_rewards
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.keys import Stage
from irl_jax.train.objectives import lora, sft_objective
from irl_jax.train.online import train_online
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import Group, PyTree


def main(config: IrlConfig) -> None:
    """Learns a reward and a policy, goes on with them, or reports what is there.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    digests = {} if config.gold is None else {"gold": reward_identity(config.gold)}
    launch_loss(config, "both", prepare, experiment, conclusion, digests)


def train(config: IrlConfig, ready: Ready, run: RunDirectory, progress: Progress) -> TrainState:
    """Trains a policy, and a discriminator if the loss has one, from the latest checkpoint on."""
    training, examples = ready.training, ready.examples
    turns: Alone | Turns
    if ready.kind is None:
        turns, (step, state) = Alone(ready, config.completions), begin_alone(config, ready)
    else:
        turns, (step, state) = Turns.of(config, ready), begin(config, ready)
    feed = make_feed(
        examples.train,
        lambda rows, shape: demonstrated(training.session, rows),
        batch_size=config.batch_size,
        shapes=examples.shapes[-1:],
        seed=training.seed,
        remainder="drop",
    )
    with closing(feed), Checkpointer(run.checkpoints / IRL, run.config) as checkpoints:
        return train_online(
            step,
            state,
            feed,
            rollout=turns.rollout,
            reward=turns.reward,
            prepare=turns.prepare,
            steps=updates(config, ready),
            frozen=(training.session.model.params,),
            run=run,
            checkpoints=checkpoints,
            save_every=training.save_every,
            progress=progress,
            stage=IRL,
        )


class Measure:
    """The learned reward of any completions, and the gold reward of answers."""

    def __init__(self, ready: Ready, params: PyTree):
        """Of a trained policy and discriminator."""
        self._ready, self._params = ready, params
        shape = ready.training.session.model.config
        adapt = lora(ready.training.lora.scale)
        if ready.kind is not None:
            self._rewards = jax.jit(partial(learned_rewards, shape, ready.kind, adapt=adapt))

    def learned(self, group: Any) -> np.ndarray:
        """What the discriminator's head says of completions, or else log π/π_ref, f64[B, K]."""
        session = self._ready.training.session
        if self._ready.kind is None:
            policy = self._ready.training.merged(self._params["policy"])
            return fetch(implicit_rewards(session, policy, group)).astype(np.float64)
        with jax.set_mesh(session.mesh):
            batch = global_batch(session.mesh, (group.context, group.action, group.mask))
            own = self._params["discriminator"]
            found: Array = self._rewards(own, session.model.params, *batch)
        return fetch(found).astype(np.float64)

    def __call__(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """For `Session.respond`."""
        found = {"reward": self.learned(group)}
        if self._ready.gold is not None:
            found["gold"] = self._ready.gold.measure(group, texts)["reward"]
        return found


def answer(
    config: IrlConfig, ready: Ready, policy: PyTree, measure: Measure, progress: Progress, name: str
) -> Completions:
    """Answers of a policy to held-out prompts, and what they are worth."""
    evaluation = config.evaluation
    prompts = ready.examples.held_out_prompts[: evaluation.prompts]
    return ready.training.session.respond(
        policy,
        prompts,
        ready.training.key(Stage.ANSWERS),
        completions=evaluation.completions,
        batch_size=evaluation.batch_size,
        advance=progress.stage(name, len(prompts)),
        measure=measure,
    )


def shown(config: IrlConfig, ready: Ready, measure: Measure) -> np.ndarray:
    """The learned reward of the first demonstration of each held-out prompt, f64[P]."""
    examples, session = ready.examples, ready.training.session
    first: dict[tuple[int, ...], Any] = {}
    for row in examples.held_out:
        first.setdefault(tuple(row.items[0].prompt), row)
    prompts = examples.held_out_prompts[: config.evaluation.prompts]
    rows = [first[tuple(prompt.prompt)] for prompt in prompts]
    found = [
        measure.learned(demonstrated(session, part))[:count, 0]
        for count, part in chunks(rows, config.evaluation.batch_size)
    ]
    return np.concatenate(found)


def told_apart(shown: np.ndarray, answers: Completions) -> np.ndarray:
    """Share of the answers to each prompt whose reward is below the demonstration's, f64[P]."""
    ahead = np.sign(shown[:, None] - answers.values["reward"])
    return (0.5 * (1.0 + ahead)).mean(1)


def differ(answers: Completions) -> dict[str, np.ndarray]:
    """How much the answers to each prompt differ, f64[P] each."""
    return {
        "distinct": np.array([distinct(texts) for texts in answers.text]),
        "self_bleu": np.array([self_bleu(texts) for texts in answers.text]),
    }


def measured(
    config: IrlConfig, ready: Ready, measure: Measure, before: Completions, after: Completions
) -> dict[str, Any]:
    """How the answers changed, with intervals over prompts."""
    each = shown(config, ready, measure)
    sides = {
        at: {"told_apart": told_apart(each, answers), **differ(answers)}
        for at, answers in (("before", before), ("after", after))
    }
    found = compare(before, after)
    for name in sides["after"]:
        for at, values in sides.items():
            found[f"{name}_{at}"] = bootstrap(values[name])
        found[f"{name}_gain"] = paired_difference(sides["before"][name], sides["after"][name])
    return found


def experiment(
    config: IrlConfig, ready: Ready, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Trains, measures, exports, reports; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    training, examples = ready.training, ready.examples
    session = training.session
    with clock("train reward and policy"):
        state = train(config, ready, run, progress)
    policy = training.merged(state.params["policy"])
    with clock("measure"):
        measure = Measure(ready, state.params)
        before = answer(config, ready, session.model.params, measure, progress, "answers before")
        after = answer(config, ready, policy, measure, progress, "answers after")
        write_samples(run, int(state.step), examples.held_out_prompts, before, after)
        start = policy_start(training, jax.random.key(0))
        losses = held_out_losses(
            training, examples, sft_objective(session.model.config, training.adapt),
            {"before": start, "after": state.params["policy"]}, config.evaluation.batch_size,
        )  # fmt: skip
        found = measured(config, ready, measure, before, after)
    known = {
        "loss": config.loss,
        "updates": int(state.step),
        **counts(examples),
        "held_out_prompts": len(before.text),
        "held_out": losses,
        **found,
    }
    with clock("export"):
        card = policy_card("irl", config, IrlConfig(), run.config, known)
        learned = state.params["policy"]
        exported = export_policy(replace(config, run_dir=run.path), training, learned, card)
    summary = as_json({
        **known,
        "export": exported,
        "exported": exported_files(exported),
        "seconds": clock.seconds,
        "report": run.report,
    })  # fmt: skip
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary
