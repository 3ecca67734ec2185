"""The study of `experiments.gsm8k`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
from jax import Array

from experiments.gsm8k.report import conclusion, write_report
from experiments.gsm8k.tasks import (
    DataConfig,
    EvaluationConfig,
    Grader,
    RewardConfig,
    encode,
    evaluate,
    results,
    truth,
)
from irl_jax.data.encode import EncodedPrompt
from irl_jax.dynamics.advantages import group_advantages, leave_one_out
from irl_jax.dynamics.weights import has_signal
from irl_jax.eval.intervals import paired_difference
from irl_jax.files import as_json, writing
from irl_jax.losses.policy import cispo, dapo, dr_grpo, grpo, gspo, reinforce
from irl_jax.masking import check_range
from irl_jax.models.mesh import fetch
from irl_jax.recipes.language_model import MeshConfig, load_language_model
from irl_jax.recipes.launch import Clock, given_model, launch_prepared, settings_of
from irl_jax.recipes.movement import policy_kl
from irl_jax.recipes.policy_training import (
    LoraConfig,
    Training,
    Updates,
    align,
    check_batches,
    export,
)
from irl_jax.rewards.composite import CompositeReward
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session, width_of
from irl_jax.train.objectives import PolicyLoss
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError

ELSEWHERE = ("run_dir", "mesh")  # fields that may change between the launches of a run
Name = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo"]


@dataclass(frozen=True)
class Algorithm:
    """What a name stands for; flags may say otherwise.

    Attributes:
        loss: of `irl_jax.losses.policy`.
        advantages: rewards f32[B, K] -> f32[B, K].
        clip: (ε_low, ε_high); None for a loss without a ratio.
        resample: rollouts more, to replace prompts of which all answers are right, or all wrong.
    """

    loss: PolicyLoss
    advantages: Callable[[Array], Array] = group_advantages
    clip: tuple[float, float] | None = (0.2, 0.2)
    resample: int = 0


# The clips are the papers'; cispo's names no number, and weights up to 5 are common.
ALGORITHMS: dict[Name, Algorithm] = {
    "grpo": Algorithm(grpo),
    "dr_grpo": Algorithm(dr_grpo, partial(group_advantages, scale=False)),
    "dapo": Algorithm(dapo, clip=(0.2, 0.28), resample=3),
    "gspo": Algorithm(gspo, clip=(3e-4, 4e-4)),
    "cispo": Algorithm(cispo, clip=(1.0, 4.0)),
    "rloo": Algorithm(reinforce, leave_one_out, clip=None),
}


@dataclass(frozen=True)
class PolicyConfig:
    """The policy gradient."""

    algorithm: Name = "grpo"  # loss, advantage and clip, see ALGORITHMS
    steps: int = 200  # rollouts
    prompts: int = 8  # questions of a rollout
    completions: int = 8  # completions of each question
    max_new_tokens: int = 256  # tokens of a completion, at most
    temperature: float = 1.0  # divides the logits
    lr: float = 1e-5  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    beta: float = 0.0  # weight of the KL penalty to the model, reward a nat; 0: no reference
    clip_low: float | None = None  # ratios below 1 - clip_low are clipped; None: the algorithm's
    clip_high: float | None = None  # ratios above 1 + clip_high; None: the algorithm's
    epochs: int = 1  # times that a rollout is learned from
    minibatches: int = 1  # updates of an epoch
    resample: int | None = None  # rollouts more, to get right and wrong; None: the algorithm's

    def __post_init__(self) -> None:
        check_range("policy.temperature", self.temperature, 0.0, exclusive=True)
        check_range("policy.lr", self.lr, 0.0, exclusive=True)
        check_range("policy.beta", self.beta, 0.0)
        check_range("policy.completions", self.completions, 2)
        for name in ("steps", "prompts", "max_new_tokens", "epochs", "minibatches"):
            check_range(f"policy.{name}", getattr(self, name), 1)
        check_range("policy.resample", self.resample or 0, 0)
        if ALGORITHMS[self.algorithm].clip is None:
            if self.epochs * self.minibatches > 1:
                raise InputError(
                    f"policy.epochs, policy.minibatches: {self.algorithm} has no ratio to make up "
                    "for several updates a rollout; set both to 1"
                )
            if not self.clip_low is self.clip_high is None:
                raise InputError(f"policy.clip_low, policy.clip_high: {self.algorithm} has no clip")
        if self.prompts % self.minibatches:
            raise InputError(
                f"policy.minibatches: {self.minibatches} does not divide policy.prompts "
                f"{self.prompts}; change one of them"
            )

    def updates(self) -> Updates:
        """The loss with its hyper-parameters, and the sizes."""
        algorithm = ALGORITHMS[self.algorithm]
        options: dict[str, Any] = {"beta": self.beta}
        if algorithm.clip is not None:
            given = zip((self.clip_low, self.clip_high), algorithm.clip, strict=True)
            options["clip"] = tuple(own if flag is None else flag for flag, own in given)
        if algorithm.loss is dr_grpo:
            options["length"] = float(self.max_new_tokens)
        return Updates(
            partial(algorithm.loss, **options),
            algorithm.advantages,
            reference=self.beta > 0,
            steps=self.steps,
            prompts=self.prompts,
            completions=self.completions,
            lr=self.lr,
            epochs=self.epochs,
            minibatches=self.minibatches,
            resample=algorithm.resample if self.resample is None else self.resample,
            decides="correct",
        )


@dataclass(frozen=True)
class Config:
    """Reinforcement learning from verifiable rewards."""

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    train: Literal["lora", "full"] = "lora"  # what is trained: a LoRA, or every weight
    run_dir: Path = Path("runs/gsm8k")  # what is written; a run goes on there
    seed: int = 0  # of everything random
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation
    remat: bool = False  # recompute activations in the backward pass: less memory, slower
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # rollouts between checkpoints
    samples: int = 1  # questions of a rollout whose completions go to samples.jsonl
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # of the exported weights
    lora: LoraConfig = field(default_factory=LoraConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if self.reward.overlong:
            check_range("reward.buffer", self.reward.buffer, 1, self.policy.max_new_tokens)


CONFIG = Config()


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
    updates, every = config.policy.updates(), config.evaluation.every
    train, test = (
        Grader(session, items, config.reward.answer) for items in (questions.train, questions.test)
    )
    reward = train.reward(config.reward)

    def measure(done: int, params: Any) -> None:
        if done == 0 or done == updates.steps or (every and done % every == 0):
            with clock("measure"):
                evaluate(
                    training, test, questions.test, config.evaluation, run, progress, done,
                    training.merged(params),
                )  # fmt: skip

    with clock("train and measure"):
        state = align(
            training, updates, questions.train, reward, run, progress,
            observe=partial(observe, config, run, train, reward), evaluate=measure,
        )  # fmt: skip
        measure(updates.steps, state.params)
    policy = training.merged(state.params)
    kl = None  # trained whole and without a reference, the policy has used up the model's memory
    if config.train == "lora" or updates.reference:
        with clock("measure"):
            answers = session.respond(
                policy, questions.test, training.key(4), completions=1,
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
    files = [f"export/{path.name}" for path in sorted(exported.glob("*"))]
    summary = summarise(config, questions, run)
    summary = as_json(
        summary | {"kl": kl, "seconds": seconds, "export": exported, "exported": files}
    )
    write_report(run, summary)
    run.finish(summary)
    return summary


def observe(
    config: Config,
    run: RunDirectory,
    grader: Grader,
    reward: CompositeReward,
    update: int,
    group: Group,
) -> dict[str, float]:
    """Writes completions to samples.jsonl, and says which prompts had something to teach.

    Returns:
        `solved`: share of prompts of which a completion is right; `has_signal`: of which another
        is wrong, too, as DAPO wants them; `moves`: of which two have different rewards, since
        others move nothing.
    """
    parts = {name: fetch(term) for name, term in reward(group)[1].items()}
    value, tokens, ended = fetch((group.reward, group.mask.sum(-1), group.terminated))
    records, texts = grader.read(group)
    for b in range(min(config.samples, len(records))):
        for k, text in enumerate(texts[b]):
            row = {"source": records[b].source, "question": records[b].fields["question"]}
            row |= {"answer": truth(records[b]), "completion": text, "tokens": tokens[b, k]}
            row |= {"ended": ended[b, k], "reward": value[b, k]}
            row |= {name: part[b, k] for name, part in parts.items()}
            run.sample(update, row, "policy")
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
