"""The study of `experiments.fine_grained_feedback`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from experiments.fine_grained_feedback.config import Config
from experiments.fine_grained_feedback.data import KINDS, Example, cut, read
from experiments.fine_grained_feedback.report import (
    CURVES,
    LISTED,
    LONGER,
    MARKED,
    conclusion,
    write_report,
)
from experiments.fine_grained_feedback.rewards import (
    DENSE,
    SEQUENCE,
    Answers,
    Pairs,
    accuracies,
    detection,
    first_against_others,
    gather,
    marked,
    rewards,
    split_of,
)
from irl_jax.data.spans import segment_of, token_ends
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.recipes.embeddings import embed_segments
from irl_jax.recipes.judging import ask
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import Clock, given_model, kept, launch, splits
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError


@dataclass(frozen=True)
class Stages:
    """What the stages of a run share.

    Attributes:
        config: of the run.
        examples: the questions.
        pairs: the comparisons in which one side was preferred.
        run: its directory.
        progress: what is shown.
    """

    config: Config
    examples: list[Example]
    pairs: Pairs
    run: RunDirectory
    progress: Progress

    def model(self) -> LanguageModel:
        """The language model."""
        config = self.config
        return load_language_model(
            config.language_model, self.run.path, seed=0, dtype=config.dtype,
            progress=self.progress, tokenizer=config.tokenizer,
        )  # fmt: skip


def encode(stages: Stages) -> dict[str, np.ndarray]:
    """Features of the parts of each answer's sentences, and the numbers of their tokens."""
    config, examples, model = stages.config, stages.examples, stages.model()
    encoder = model.encoder(
        max_prompt=config.max_prompt, max_completion=config.max_completion, overlong="truncate"
    )
    groups = encoder.groups(example.group() for example in examples)
    segments = []
    for example, group in zip(examples, groups, strict=True):
        for answer, ids in zip(example.answers, group.completions, strict=True):
            if not answer.startswith(model.tokenizer.decode(ids).rstrip("\ufffd")):
                raise InputError(
                    f"{example.source}: the tokenizer does not keep {answer[:40]!r} as it is; "
                    "use a model whose tokenizer does"
                )
        segments.append(
            [
                segment_of(token_ends(model.tokenizer.decode, ids), cut(answer).ends)
                for answer, ids in zip(example.answers, group.completions, strict=True)
            ]
        )
    parts, tokens = embed_segments(
        model,
        groups,
        segments,
        layers=config.layers,
        batch_size=8,
        advance=stages.progress.stage("hidden states", len(groups)),
    )
    return {"parts": parts, "tokens": tokens}


def judge(stages: Stages) -> dict[str, np.ndarray]:
    """The language model's verdict on a pair of each of some questions.

    Returns:
        `preference` and `bias` f32[J], log-odds for the side that people preferred and for
        the place shown first.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(stages.pairs.question))
    _, first = np.unique(stages.pairs.question[order], return_index=True)
    some = order[rng.permutation(first)[: stages.config.judged]]
    shown = [
        (example.question, *(example.answers[side] for side in stages.pairs.sides[i]))
        for i in some
        for example in [stages.examples[stages.pairs.question[i]]]
    ]
    said = ask(
        stages.model(),
        shown,
        max_prompt=stages.config.max_prompt,
        batch_size=8,
        advance=stages.progress.stage("judge", 2 * len(shown)),
    )
    return {"preference": np.asarray(said.preference), "bias": np.asarray(said.bias)}


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    examples = read(config.data)
    pairs = Pairs.of(examples)
    train = splits(np.arange(len(examples)), config.held_out, config.seeds)
    most = int(train.sum(1).min())
    if not all(1 <= n <= most for n in config.questions):
        raise InputError(
            f"questions: {', '.join(map(str, config.questions))} to learn from, but held_out "
            f"{config.held_out} of {len(examples)} leaves {most}; give 1 to {most}"
        )
    inputs = {
        "data": config.data,
        "language_model": given_model(config.language_model),
        "tokenizer": config.tokenizer,
    }
    launch(config, partial(experiment, config, examples, pairs, train), conclusion, inputs=inputs)


def experiment(
    config: Config,
    examples: list[Example],
    pairs: Pairs,
    train: np.ndarray,
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Encodes, judges, learns from every number of questions, reports."""
    clock = Clock(run.path / "seconds.json")
    stages = Stages(config, examples, pairs, run, progress)
    with clock("encode answers"):
        answers = gather(examples, **kept(run, "features", lambda: encode(stages)))
    summary: dict[str, Any] = {}
    if config.judged:
        with clock("judge"):
            summary["judge"] = judged(**kept(run, "judge", lambda: judge(stages)))
    with clock("learn rewards"):
        summary |= measure(stages, answers, train)
    summary["seconds"] = clock.seconds
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measure(stages: Stages, answers: Answers, train: np.ndarray) -> dict[str, Any]:
    """Learns every reward from every number of questions, and holds them against people."""
    config, pairs, examples = stages.config, stages.pairs, stages.examples
    found = baselines(examples, len(train))
    curve: dict[str, list[Interval]] = {name: [] for name in CURVES}
    differences = []
    advance = stages.progress.stage("numbers of questions", len(config.questions))
    for done, number in enumerate(config.questions, start=1):
        split = split_of(train, number)
        named, scores = rewards(answers, pairs, split, config.reward)
        accuracy = {name: accuracies(named[name], pairs, ~train) for name in CURVES}
        for name, values in accuracy.items():
            curve[name].append(bootstrap(values))
        differences.append(paired_difference(accuracy[SEQUENCE], accuracy[DENSE]))
        advance(done, {})
    found |= named
    ordered = {name: accuracies(reward, pairs, ~train) for name, reward in found.items()}
    found[MARKED] = marked(answers, pairs, split)
    told = {name: first_against_others(reward, pairs, ~train) for name, reward in found.items()}
    against = {
        name: paired_difference(ordered[SEQUENCE], values)
        for name, values in ordered.items()
        if name != SEQUENCE
    }
    errors = detection(answers, scores, ~train)
    over_splits = lambda named: {name: bootstrap(values) for name, values in named.items()}
    return {
        "questions": len(examples),
        "pairs": len(pairs.question),
        "without_preference": float(np.mean([p == 0 for e in examples for p in e.preference])),
        "accuracy": over_splits(ordered),
        "against_whole": against,
        "first_answer_auc": over_splits(told),
        "detection_auc": over_splits(errors),
        "error_rate": {kind: float(np.nanmean(answers.label[kind])) for kind in KINDS},
        "curve": curve,
        "dense_against_whole": differences,
        "by_split": {name: values.tolist() for name, values in ordered.items()},
    }


def baselines(examples: list[Example], seeds: int) -> dict[str, np.ndarray]:
    """Name -> reward of all answers f32[S, N, 4], the same in each split."""
    place = np.tile(-np.arange(4.0), (len(examples), 1))
    length = np.array([[len(answer) for answer in example.answers] for example in examples])
    return {name: np.stack([x] * seeds) for name, x in {LISTED: place, LONGER: length}.items()}


def judged(preference: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
    """What the judge's log-odds amount to."""
    return {
        "pairs": len(preference),
        "accuracy": bootstrap((np.sign(preference) + 1) / 2),
        "accuracy_of_one_order": bootstrap(
            (np.sign(np.stack([preference + bias, preference - bias])) + 1).mean(0) / 2
        ),
        "consistent": bootstrap(np.abs(preference) > np.abs(bias)),
        "bias": bootstrap(bias),
        "preference_size": float(np.abs(preference).mean()),
    }
