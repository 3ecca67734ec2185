"""The study of `experiments.reward_of_an_aligned_model`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reward_of_an_aligned_model.readings import (
    READINGS,
    SAMPLED,
    WEIGHTS,
    compared,
    orders,
    read,
    shuffled,
)
from experiments.reward_of_an_aligned_model.report import (
    LENGTH,
    LIKELIHOOD,
    VADER,
    conclusion,
    write_report,
)
from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.eval.intervals import adjusted, bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.losses.policy import grpo
from irl_jax.masking import check_range, masked_sum
from irl_jax.recipes.language_model import MeshConfig, load_language_model
from irl_jax.recipes.launch import Clock, given_model, kept, launch
from irl_jax.recipes.movement import policy_kl
from irl_jax.recipes.policy_training import LoraConfig, Training, Updates, align
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rewards.contract import of_group
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rewards.vader import valence
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Completions, Session, width_of
from irl_jax.train.methods import policy_gradient
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, PyTree

TOPICS, WORDS = "other topics", "other topics and words"
ASKED = {TOPICS: prompt_of, WORDS: lambda topic: f"Tell a friend in a sentence about {topic}."}


@dataclass(frozen=True)
class PolicyConfig:
    """GRPO with a LoRA, against VADER itself."""

    steps: int = 8  # updates
    prompts: int = 8  # prompts of an update
    completions: int = 8  # answers to each prompt
    lr: float = 5e-4  # learning rate of Adam, constant after two warm-up updates
    kl_beta: float = 0.04  # weight of the KL penalty to the reference, reward a nat
    clip: float = 0.2  # clip range of the importance ratio
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(8, 16.0))
    save_every: int = 4  # updates between checkpoints


@dataclass(frozen=True)
class Config:
    """An aligned model, its samples, and who reads them."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    run_dir: Path = Path("runs/reward_of_an_aligned_model")  # of results; a run resumes there
    seed: int = 0  # seed of everything random
    train: int = 48  # topics on which the policy is trained, and whose answers are read
    held_out: int = 24  # topics on which the readings are judged
    samples: int = 8  # answers to each training prompt, of the policy and of the reference
    judged: int = 8  # answers of the reference to each held-out prompt
    pairs: tuple[int, ...] = (6, 24, 96, 384)  # samples of each side that are read
    draws: int = 4  # choices of so many samples, over which a prompt's correlation is averaged
    max_new_tokens: int = 24  # tokens of an answer, at most
    feature_layers: int = 15  # layers of the model that the features come from
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8))
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reading: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(members=2, batch_size=128)
    )  # of discriminator and Bradley-Terry
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 1)
        check_range("judged", self.judged, 2)
        check_range("draws", self.draws, 1)
        most = self.train * self.samples
        if not self.pairs or not all(2 <= n <= most for n in self.pairs):
            raise InputError(f"pairs: expected 2 to {most} (train x samples), got {self.pairs}")


CONFIG = Config()
Asked = Mapping[str, Sequence[EncodedPrompt]]


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    inputs = {"model": given_model(config.model), "tokenizer": config.tokenizer}
    launch(config, partial(experiment, config), conclusion, inputs=inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """The stages, from the model to the report."""
    clock = Clock(run.path / "seconds.json")
    with clock("load the model"):
        session, asked = prepare(config, run, progress)
        lora = config.policy.lora
        training = Training(session, lora, seed=config.seed, save_every=config.policy.save_every)
    with clock("align the policy"):
        adapter = improve(config, training, asked["train"], run, progress)
    with clock("sample"):
        found = answers(config, training, adapter, asked, run, progress)
    with clock("read the reward"):
        known = kept(run, "orders", partial(judge, config, found))
    summary = as_json(summarise(config, known, found) | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def prepare(config: Config, run: RunDirectory, progress: Progress) -> tuple[Session, Asked]:
    """The model, and the prompts: of training, and of each of `ASKED` on held-out topics."""
    model = load_language_model(
        config.model, run.path, seed=config.seed, dtype="float32", progress=progress,
        tokenizer=config.tokenizer,
    )  # fmt: skip
    encoder = model.encoder(max_prompt=64, max_completion=config.max_new_tokens)
    names = topics(config.train + config.held_out, config.seed)
    encode = lambda ask, some: encoder.prompts(
        PromptRecord(ask(name), {}, f"topic {name}") for name in some
    )
    asked = {"train": encode(prompt_of, names[: config.train])}
    asked |= {name: encode(ask, names[config.train :]) for name, ask in ASKED.items()}
    session = Session.create(
        model,
        config.mesh.make(),
        prompt_width=width_of(*asked.values()),
        max_new_tokens=config.max_new_tokens,
        sampling=config.sampling,
    )
    return session, asked


def improve(
    config: Config,
    training: Training,
    prompts: Sequence[EncodedPrompt],
    run: RunDirectory,
    progress: Progress,
) -> PyTree:
    """GRPO against VADER; returns the LoRA."""
    policy, session = config.policy, training.session
    updates = Updates(
        policy_gradient(
            partial(grpo, beta=policy.kl_beta, clip=policy.clip), group_advantages, session.sampling
        ),
        reference=True,
        steps=policy.steps,
        prompts=policy.prompts,
        completions=policy.completions,
        lr=optax.warmup_constant_schedule(0.0, policy.lr, 2),
    )
    gold = lambda group: jnp.asarray(valence(session.texts(group)), jnp.float32)
    return align(training, updates, [*prompts], of_group(gold), run, progress).params


def answers(
    config: Config,
    training: Training,
    adapter: PyTree,
    asked: Asked,
    run: RunDirectory,
    progress: Progress,
) -> dict[str, Completions]:
    """Samples of the policy and, twice as many, of the reference; and those to be judged.

    What is judged has, beside gold and features, log π of the policy ("aligned") and of the policy
    of the shuffled LoRA ("shuffled"), at the temperature of sampling.
    """
    session, key = training.session, jax.random.key(config.seed)
    reference = session.model.params
    policy = training.merged(adapter)
    others = {
        "aligned": policy,
        "shuffled": training.merged(shuffled(jax.random.fold_in(key, 1), adapter)),
    }

    def measure(group: Group, texts: list[list[str]]) -> dict[str, Any]:
        return {"gold": valence(texts), "features": session.embed(group, config.feature_layers)}

    def compare(group: Group, texts: list[list[str]]) -> dict[str, Any]:
        total = lambda params: masked_sum(session.logp(params, group), group.mask, axis=-1)
        return measure(group, texts) | {name: total(own) for name, own in others.items()}

    plan = {
        "policy": (policy, asked["train"], config.samples, measure),
        "reference": (reference, asked["train"], 2 * config.samples, measure),
        **{name: (reference, asked[name], config.judged, compare) for name in ASKED},
    }
    found = {}
    for number, (name, (params, prompts, count, look)) in enumerate(plan.items()):
        file = run.path / f"{name.replace(' ', '_')}.npz"
        if not file.exists():
            session.respond(
                params, prompts, jax.random.fold_in(key, 2 + number), completions=count,
                batch_size=config.policy.prompts, advance=progress.stage(name, len(prompts)),
                measure=look,
            ).save(file)  # fmt: skip
        found[name] = Completions.load(file)
    return found


def cells(config: Config, count: int) -> np.ndarray:
    """Which answers are read in each draw, i64[S, count]: numbers from 0 to train × samples."""
    every = config.train * config.samples
    draw = lambda s: np.random.default_rng([config.seed, count, s]).permutation(every)[:count]
    return np.stack([draw(s) for s in range(config.draws)])


def judge(config: Config, found: Mapping[str, Completions]) -> dict[str, np.ndarray]:
    """Correlations of each prompt, "distribution/kind/reading" f64[counts, P].

    Kinds are "aligned", the readings of the policy; "unmoved", their controls; "baseline".
    """
    flat = lambda name: found[name].values["features"].astype(np.float32)
    policy, (first, second) = flat("policy"), np.split(flat("reference"), 2, axis=1)
    every = config.train * config.samples
    features = jnp.asarray(np.concatenate([policy, first, second]).reshape(3 * every, -1))
    gold = np.concatenate(np.split(found["reference"].values["gold"], 2, axis=1)).ravel()
    judged = {name: found[name] for name in ASKED}
    new = jnp.asarray(np.concatenate([j.values["features"].reshape(-1, features.shape[-1])
                                      for j in judged.values()]))  # fmt: skip
    rewards: dict[str, list[np.ndarray]] = {}
    for number, n in enumerate(config.pairs):
        own = cells(config, n)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number), len(own))
        aligned = np.stack([own, own + every], axis=-1)
        unmoved = aligned + every
        ahead = (gold[own] >= gold[own + every])[..., None]
        better = np.where(ahead, unmoved, unmoved[..., ::-1])
        for kind, pairs in {"aligned": aligned, "unmoved": unmoved}.items():
            for name, reward in read(features, pairs, keys, new, config.reading).items():
                rewards.setdefault(f"{kind}/{name}", []).append(reward)
        by_gold = compared(features, better, keys, new, config.reading)
        rewards.setdefault(f"baseline/{VADER}", []).append(np.asarray(by_gold))
    return by_prompt(config, rewards, judged)


def by_prompt(
    config: Config, rewards: Mapping[str, list[np.ndarray]], judged: Mapping[str, Completions]
) -> dict[str, np.ndarray]:
    """`judge`'s result from rewards of all judged answers, [counts] times f32[S, R]."""
    out = {}
    start = 0
    for where, answers in judged.items():
        gold = answers.values["gold"]
        rows, start = slice(start, start + gold.size), start + gold.size
        for name, each in rewards.items():
            own = [orders(r[:, rows].reshape(-1, *gold.shape), gold) for r in each]
            out[f"{where}/{name}"] = np.stack(own)
        ref = np.where(answers.mask, answers.ref_logp, 0.0).sum(-1)
        fixed = {
            f"aligned/{WEIGHTS}": answers.values["aligned"] - ref,
            f"unmoved/{WEIGHTS}": answers.values["shuffled"] - ref,
            f"baseline/{LENGTH}": answers.mask.sum(-1),
            f"baseline/{LIKELIHOOD}": ref,
        }
        for name, reward in fixed.items():
            out[f"{where}/{name}"] = np.stack([orders(reward[None], gold)] * len(config.pairs))
    return out


def summarise(
    config: Config, known: Mapping[str, np.ndarray], found: Mapping[str, Completions]
) -> dict[str, Any]:
    """The results as JSON values; intervals by the bootstrap over prompts.

    Returns:
        `orders`: where -> kind -> reading -> an interval for each number of pairs; `less_control`
        and `less_weights`: where -> reading -> the same for differences by prompt to its control,
        and to log π/π_ref; `corrected`: where -> p of the differences to the controls at the most
        pairs, by Holm's procedure; `prompts`: where -> those that have an order.
    """
    drop = {name: x[:, ~np.isnan(x[0])] for name, x in known.items()}
    parts = [name.split("/", 2) for name in drop]
    by_kind: dict[str, Any] = {}
    for where, kind, name in parts:
        rows = drop[f"{where}/{kind}/{name}"]
        by_kind.setdefault(where, {}).setdefault(kind, {})[name] = [bootstrap(x) for x in rows]
    less = lambda where, a, b: [
        paired_difference(y, x)
        for x, y in zip(drop[f"{where}/{a}"], drop[f"{where}/{b}"], strict=True)
    ]
    last = lambda where, name: (
        drop[f"{where}/aligned/{name}"][-1] - drop[f"{where}/unmoved/{name}"][-1]
    )
    policy, reference = found["policy"], found["reference"]
    mean = lambda answers: answers.values["gold"].mean(1)
    return {
        "pairs": config.pairs,
        "orders": by_kind,
        "less_control": {
            where: {n: less(where, f"aligned/{n}", f"unmoved/{n}") for n in READINGS}
            for where in ASKED
        },
        "less_weights": {
            where: {n: less(where, f"aligned/{n}", f"aligned/{WEIGHTS}") for n in SAMPLED}
            for where in ASKED
        },
        "corrected": {where: adjusted({n: last(where, n) for n in READINGS}) for where in ASKED},
        "judged": config.judged,
        "prompts": {where: drop[f"{where}/aligned/{WEIGHTS}"].shape[1] for where in ASKED},
        "gold_before": bootstrap(mean(reference)),
        "gold_after": bootstrap(mean(policy)),
        "gold_gain": paired_difference(mean(reference), mean(policy)),
        "kl": policy_kl(policy),
        "length_before": reference.length,
        "length_after": policy.length,
    }
