"""The study of `experiments.gsm8k`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from experiments.gsm8k.config import Config
from experiments.gsm8k.report import conclusion, write_report
from experiments.gsm8k.tasks import Grader, encode, evaluate, results, truth
from irl_jax.data.encode import EncodedPrompt
from irl_jax.dynamics.weights import has_signal
from irl_jax.eval.intervals import paired_difference
from irl_jax.files import as_json, writing
from irl_jax.models.mesh import fetch
from irl_jax.recipes.export import export, exported_files
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import Clock, given_model, launch_prepared, settings_of
from irl_jax.recipes.movement import policy_kl
from irl_jax.recipes.policy_training import Training, align, check_batches
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session, width_of
from irl_jax.train.keys import Stage
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, LoopContext

ELSEWHERE = ("run_dir", "mesh")  # fields that may change between the launches of a run


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there.

    Nothing is written before the data and the model have been read and checked.
    """
    train, test = config.data.files()
    inputs = {
        "data.train": train,
        "data.test": test,
        "model": given_model(config.model),
        "tokenizer": config.tokenizer,
    }
    launch_prepared(
        config.run_dir,
        settings_of(config, inputs, ELSEWHERE),
        partial(prepare, config),
        partial(experiment, config),
        conclusion,
    )


@dataclass(frozen=True)
class Questions:
    """Prompts to train and to measure on, and the model that they fit."""

    training: Training
    train: list[EncodedPrompt]
    test: list[EncodedPrompt]


def prepare(config: Config, progress: Progress) -> Questions:
    """Reads data and model, checks that they fit, and places the model on the devices.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    policy = config.policy
    mesh = config.mesh.make()
    check_batches(
        {"policy.prompts / policy.minibatches": policy.prompts // policy.minibatches},
        {"evaluation.batch_size": config.evaluation.batch_size},
        accumulate=config.accumulate,
        ways=mesh.shape["data"] * mesh.shape["fsdp"],
    )
    with writing(config.run_dir):
        model = load_language_model(
            config.model, config.run_dir, seed=config.seed, dtype=config.dtype, progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
    train, test = encode(config.data, model)
    test = test[: config.evaluation.questions]
    if len(train) < policy.prompts:
        raise InputError(
            f"policy.prompts: {policy.prompts} questions a rollout, but there are only "
            f"{len(train)} to train on; lower it"
        )
    width = width_of(train, test)
    if width + policy.max_new_tokens > model.config.max_positions:
        raise InputError(
            f"policy.max_new_tokens: prompts of {width} tokens + {policy.max_new_tokens} exceed "
            f"the model's context of {model.config.max_positions}; lower it"
        )
    if config.train == "lora":
        config.lora.check(model.params)
    decoder = replace(model.config, remat=config.remat)
    session = Session.create(
        replace(model, config=decoder),
        mesh,
        prompt_width=width,
        max_new_tokens=policy.max_new_tokens,
        sampling=Sampling(temperature=policy.temperature),
    )
    training = Training(
        session,
        config.lora,
        seed=config.seed,
        accumulate=config.accumulate,
        save_every=config.save_every,
        train=config.train,
    )
    return Questions(training, train, test)


def experiment(
    config: Config, questions: Questions, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Trains and measures in turn, exports, reports; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    training, session = questions.training, questions.training.session
    updates = config.policy.updates()
    train, test = (
        Grader(session, items, config.reward.answer) for items in (questions.train, questions.test)
    )

    def measure(context: LoopContext) -> None:
        with clock("measure"):
            evaluate(
                training, test, questions.test, config.evaluation, run, progress, context.done,
                training.merged(context.params),
            )  # fmt: skip

    with clock("train and measure"):
        state = align(
            training, updates, questions.train, train.reward(config.reward), run, progress,
            observe=partial(observe, config, run, train), evaluate=measure,
            evaluate_every=config.evaluation.every,
        )  # fmt: skip
    policy = training.merged(state.params)
    kl = None  # trained whole and without a reference, the policy has used up the model's memory
    if config.train == "lora" or updates.reference:
        with clock("measure"):
            answers = session.respond(
                policy, questions.test, training.key(Stage.DIVERGENCE), completions=1,
                batch_size=config.evaluation.batch_size,
                advance=progress.stage("KL on the test questions", len(questions.test)),
            )  # fmt: skip
            kl = policy_kl(answers)
    with clock("export"):
        exported = export(config.run_dir, session.model, policy, dtype=config.export_dtype)
    seconds = dict(clock.seconds)
    seconds["train"] = seconds.pop("train and measure") - seconds["measure"]
    if jax.process_index() > 0:
        return {}
    summary = summarise(config, questions, run)
    summary = as_json(
        summary
        | {"kl": kl, "seconds": seconds, "export": exported, "exported": exported_files(exported)}
    )
    write_report(run, summary)
    run.finish(summary)
    return summary


def observe(
    config: Config, run: RunDirectory, grader: Grader, group: Group, context: LoopContext
) -> dict[str, float]:
    """Writes completions to samples.jsonl, and says which prompts had something to teach.

    Returns:
        `solved`: share of prompts of which a completion is right; `has_signal`: of which another
        is wrong, too, as DAPO wants them; `moves`: of which two have different rewards, since
        others move nothing.
    """
    parts = {name: fetch(term) for name, term in context.parts.items()}
    value, tokens, ended = fetch((group.reward, group.mask.sum(-1), group.terminated))
    records, texts = grader.read(group)
    for b in range(min(config.samples, len(records))):
        for k, text in enumerate(texts[b]):
            row = {"source": records[b].source, "question": records[b].fields["question"]}
            row |= {"answer": truth(records[b]), "completion": text, "tokens": tokens[b, k]}
            row |= {"ended": ended[b, k], "reward": value[b, k]}
            row |= {name: part[b, k] for name, part in parts.items()}
            run.sample(context.update, row, "policy")
    solved = parts["correct"].max(1).mean()
    share = lambda term: float(has_signal(term).mean())
    return {"solved": float(solved), "has_signal": share(parts["correct"]), "moves": share(value)}


def summarise(config: Config, questions: Questions, run: RunDirectory) -> dict[str, Any]:
    """What was measured, with intervals over questions."""
    found = results(run, config.reward.answer)
    before, after = found[min(found)], found[max(found)]
    keep = lambda result: {k: v for k, v in result.items() if k != "by_question"}
    return {
        "algorithm": config.policy.algorithm,
        "train_questions": len(questions.train),
        "test_questions": len(questions.test),
        "prompt_tokens": questions.training.session.prompt_width,
        "evaluations": {step: keep(result) for step, result in found.items()},
        "gain": paired_difference(before["by_question"], after["by_question"]),
        "report": run.report,
    }
