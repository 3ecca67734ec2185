"""A language model's answers to short prompts, embedded and judged: a world to learn in.

Studies of annotators need responses whose true quality is known. Here SmolLM2 writes a
sentence on a topic, K times, and the valence that VADER gives it is the gold reward;
the features are the hidden states of its own middle layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import jax

from irl_jax.data.jsonl import PromptRecord
from irl_jax.recipes.language_model import MeshConfig, load_language_model
from irl_jax.recipes.launch import Inputs, given_model
from irl_jax.recipes.tiny import prompt_of, topics
from irl_jax.rewards.vader import valence
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Completions, Session, width_of
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory


@dataclass(frozen=True)
class AnswersConfig:
    """What is asked, and how it is answered."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    prompts: int = 80  # prompts, each on a topic of its own
    completions: int = 32  # responses to each prompt
    max_new_tokens: int = 24  # tokens of a response, at most
    batch_size: int = 4  # prompts at a time
    feature_layers: int = 15  # layers of the model that the features come from
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8))
    mesh: MeshConfig = field(default_factory=MeshConfig)

    @property
    def inputs(self) -> Inputs:
        """What is read, for `launch`."""
        return {"answers.model": given_model(self.model), "answers.tokenizer": self.tokenizer}


def sample_answers(
    config: AnswersConfig, run: RunDirectory, progress: Progress, *, seed: int
) -> Completions:
    """The responses, from responses.npz in the run directory once they are made."""
    file = run.path / "responses.npz"
    if not file.exists():
        model = load_language_model(
            config.model, run.path, seed=seed, dtype="float32", progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
        encoder = model.encoder(max_prompt=64, max_completion=config.max_new_tokens)
        prompts = encoder.prompts(
            PromptRecord(prompt_of(name), {}, f"topic {i}")
            for i, name in enumerate(topics(config.prompts, seed))
        )
        session = Session.create(
            model,
            config.mesh.make(),
            prompt_width=width_of(prompts),
            max_new_tokens=config.max_new_tokens,
            sampling=config.sampling,
        )
        session.respond(
            session.model.params,
            prompts,
            jax.random.key(seed),
            completions=config.completions,
            batch_size=config.batch_size,
            advance=progress.stage("responses", len(prompts)),
            measure=lambda group, texts: {
                "gold": valence(texts),
                "features": session.embed(group, config.feature_layers),
            },
        ).save(file)
    return Completions.load(file)
