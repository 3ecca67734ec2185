"""SmolLM2 imitates GSM8K's human solutions, by likelihood and as a soft Q."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from experiments.mle_or_inverse_q.config import SolutionsConfig
from experiments.mle_or_inverse_q.worlds import MLE
from irl_jax.data.batches import collate_demonstrations, one_per_row, pack
from irl_jax.data.encode import EncodedDemonstration, EncodedPrompt
from irl_jax.data.feeds import make_feed
from irl_jax.data.jsonl import DemonstrationRecord, PromptRecord
from irl_jax.data.lines import read_jsonl
from irl_jax.eval.diversity import self_bleu
from irl_jax.losses.soft_q import iq_learn_lm
from irl_jax.masking import masked_sum
from irl_jax.models.logprob import sequence_logp
from irl_jax.models.mesh import global_batch
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import kept
from irl_jax.recipes.policy_training import Training, begin
from irl_jax.rewards.numeric import number
from irl_jax.rewards.text import after
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session, chunks, width_of
from irl_jax.train.keys import Stage
from irl_jax.train.objectives import soft_q_objective
from irl_jax.train.offline import train_offline
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Demonstration, InputError, PyTree

PROMPT = "{question}\n\nReason step by step. End with a line '#### ' and the answer as a number."
ANSWER = after("####")
BEFORE = "untrained"


@dataclass(frozen=True)
class Solutions:
    """What is learned and measured on.

    Attributes:
        training: session, LoRA.
        train: human solutions.
        test: human solutions of the questions that are measured on.
        asked: these questions alone.
        answer: the number that each asks for.
    """

    training: Training
    train: list[EncodedDemonstration]
    test: list[EncodedDemonstration]
    asked: list[EncodedPrompt]
    answer: list[str]


def read_solutions(path: Path) -> Iterable[DemonstrationRecord]:
    """Questions with their human solutions, without the marks of the calculator.

    Args:
        path: JSON Lines: `question`, and `answer` ending in #### NUMBER.

    Raises:
        InputError: naming the line that lacks one of them.
    """
    for line, row in read_jsonl(path):
        texts = [row.get(name) for name in ("question", "answer")]
        if not all(isinstance(text, str) for text in texts) or ANSWER(row["answer"]) is None:
            raise InputError(
                f"{path}:{line}: expected texts `question` and `answer`, which ends in #### and a "
                "number; fix it"
            )
        solution = re.sub(r"<<[^>]*>>", "", row["answer"])
        yield DemonstrationRecord(
            PROMPT.replace("{question}", row["question"]), solution, f"{path}:{line}"
        )


def prepare(config: SolutionsConfig, run: RunDirectory, progress: Progress) -> Solutions:
    """Reads the files and loads the model.

    Raises:
        InputError: a line that cannot be read, or too few questions that are short enough.
    """
    assert config.train is not None and config.test is not None
    records = [list(read_solutions(path)) for path in (config.train, config.test)]
    model = load_language_model(
        config.model, run.path, seed=0, dtype="float32", progress=progress, tokenizer=None
    )
    encoder = model.encoder(
        max_prompt=config.max_prompt, max_completion=config.max_new_tokens, overlong="drop"
    )
    train, test = (encoder.demonstrations(each) for each in records)
    test = test[: config.questions]
    if not train or len(test) < config.questions:
        raise InputError(
            f"solutions: {len(train)} and {len(test)} are short enough; raise solutions.max_prompt "
            "and solutions.max_new_tokens, or ask fewer solutions.questions"
        )
    by_source = {record.source: record for record in records[1]}
    given = [by_source[item.source] for item in test]
    asked = encoder.prompts(PromptRecord(each.prompt, {}, each.source) for each in given)
    session = Session.create(
        model,
        config.mesh.make(),
        prompt_width=width_of(asked),
        max_new_tokens=config.max_new_tokens,
        sampling=Sampling(),
    )
    training = Training(session, config.lora, seed=0)
    return Solutions(training, train, test, asked, [ANSWER(str(e.completion)) or "" for e in given])


def train(config: SolutionsConfig, data: Solutions, lam: float, progress: Progress) -> PyTree:
    """The parameters of a policy after `config.updates` updates under λ; 0 is MLE."""
    training, model = data.training, data.training.session.model
    loss = partial(iq_learn_lm, lam=lam, discount=1.0)
    first, key = jax.random.split(training.key(Stage.POLICY))
    step, state = begin(
        training,
        soft_q_objective(model.config, training.adapt, loss),
        config.lora.init(first, model.params),
        key,
        lr=config.lr,
        steps=config.updates,
        frozen=(model.params,),
    )
    feed = make_feed(
        pack(data.train, config.row),
        partial(collate_demonstrations, pad_id=model.tokenizer.pad_id),
        batch_size=config.rows,
        shapes=[(config.row,)],
        seed=0,
        remainder="drop",
    )
    with closing(feed):
        state = train_offline(
            step, state, feed, steps=config.updates, frozen=(model.params,), progress=progress,
            stage=f"λ = {lam:g}",
        )  # fmt: skip
    return training.merged(state.params)


def surprise(data: Solutions, policy: PyTree, *, batch_size: int = 8) -> np.ndarray:
    """−log π a token of each human solution that is measured on, f64[Q], nats."""
    session = data.training.session
    width = max(len(item.prompt) + len(item.completion) for item in data.test)

    @jax.jit
    def of_batch(policy: PyTree, batch: Demonstration) -> Array:
        logp = sequence_logp(session.model.config, policy, batch.tokens, batch.segment)
        return -masked_sum(logp, batch.mask, axis=-1) / batch.mask.sum(-1)

    found = []
    for count, rows in chunks(one_per_row(data.test), batch_size):
        batch = collate_demonstrations(rows, (width,), pad_id=session.model.tokenizer.pad_id)
        with jax.set_mesh(session.mesh):
            found.append(np.asarray(of_batch(policy, global_batch(session.mesh, batch)))[:count])
    return np.concatenate(found).astype(np.float64)


def right(texts: Sequence[str], answer: str) -> list[bool]:
    """Whether each text marks the number that is right."""
    truth = number(answer)
    return [truth is not None and number(ANSWER(text) or "") == truth for text in texts]


def measure(
    config: SolutionsConfig, data: Solutions, policy: PyTree, name: str, progress: Progress
) -> dict[str, np.ndarray]:
    """What a policy is worth.

    Returns:
        "surprise" f64[Q]; "likeness", "marked", "right" and "tokens" f64[temperatures, Q], means
        over completions: self-BLEU, the share that marks a number and that marks the right one,
        and their length.
    """
    training = data.training
    rows: list[list[list[float]]] = []
    for temperature in config.temperatures:
        session = replace(training.session, sampling=Sampling(temperature=temperature))
        answers = session.respond(
            policy, data.asked, training.key(Stage.ANSWERS), completions=config.completions,
            batch_size=8, advance=progress.stage(f"{name}, {temperature:g}", len(data.asked)),
            reference=False,
        )  # fmt: skip
        marked = [[number(ANSWER(t) or "") is not None for t in texts] for texts in answers.text]
        correct = [right(t, a) for t, a in zip(answers.text, data.answer, strict=True)]
        rows.append(
            [
                [self_bleu(texts) for texts in answers.text],
                np.mean(marked, axis=1).tolist(),
                np.mean(correct, axis=1).tolist(),
                answers.mask.sum(-1).mean(-1).tolist(),
            ]
        )
    found = np.array(rows, np.float64).swapaxes(0, 1)
    names = ("likeness", "marked", "right", "tokens")
    return {"surprise": surprise(data, policy)} | dict(zip(names, found, strict=True))


def imitate(
    config: SolutionsConfig, run: RunDirectory, progress: Progress
) -> dict[str, dict[str, np.ndarray]]:
    """Name of a policy -> what `measure` finds; kept in the run directory, one after the other."""
    data = prepare(config, run, progress)

    def make(name: str, lam: float | None) -> dict[str, Any]:
        own = data.training.session.model.params
        policy = own if lam is None else train(config, data, lam, progress)
        return measure(config, data, policy, name, progress)

    names: dict[str, float | None] = {BEFORE: None}
    names |= {f"λ = {lam:g}" if lam else MLE: lam for lam in config.lams}
    return {
        name: kept(run, f"solutions_{number}", partial(make, name, lam))
        for number, (name, lam) in enumerate(names.items())
    }
