"""A published reward model of 0.5 B parameters: `irl-jax score` against transformers.

Claim: a goal that no run has shown yet: pairs are scored at least 1.5 times as fast as by
    transformers, with no more memory.
Command: python -m experiments.benchmarks.reward_models (needs pip install "irl_jax[parity]")
Runtime: not known; some 20 minutes on 2 idle cores.
Expected: experiments/benchmarks/expected.md. It has no figures of this yet.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.benchmarks.measure import peak_memory, spread
from irl_jax.recipes.cli import run as run_cli

TEMPLATE = "{% for m in messages %}{{ '<' + m.role + '> ' + m.content + ' </s> ' }}{% endfor %}"
SPECIAL = ("<pad>", "</s>", "<user>", "<assistant>")
VOCABULARY = 32_000
Texts = list[tuple[str, list[str]]]  # a prompt and its two responses, of each pair


@dataclass(frozen=True)
class Config:
    """What is scored. Words are tokens; lengths are log-normal."""

    pairs: int = 500  # of a prompt and two responses
    prompt: float = 40.0  # mean tokens of a prompt
    response: float = 60.0  # mean tokens of a response
    sigma: float = 0.7  # of the logarithm of a length
    longest: int = 512  # tokens of a prompt, and of a response, at most
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the computation of both
    batch: int = 32  # sequences at a time: transformers' rows, twice our pairs
    layers: int = 24  # of the model
    rounds: int = 3  # passes of each library over the pairs, in turn
    worker: Literal["", "write", "irl_jax", "transformers"] = ""  # used inside
    directory: str = ""  # used inside


CONFIG = Config()


def texts(config: Config) -> Texts:
    """Random words; the lengths are those of the configuration."""
    rng = np.random.default_rng(0)

    def text(mean: float) -> str:
        count = rng.lognormal(np.log(mean) - config.sigma**2 / 2, config.sigma)
        words = rng.integers(len(SPECIAL), VOCABULARY, int(np.clip(count, 2, config.longest)))
        return " ".join(f"w{word}" for word in words)

    return [
        (text(config.prompt), [text(config.response), text(config.response)])
        for _ in range(config.pairs)
    ]


def write(config: Config) -> None:
    """A random Qwen3 reward model in bfloat16 and a tokenizer of words."""
    import jax
    import tokenizers

    from irl_jax.models.decoder import init_params
    from irl_jax.models.decoder_config import DecoderConfig
    from irl_jax.models.reward_files import save_reward_model

    shape = DecoderConfig(
        vocab_size=VOCABULARY, d_model=896, n_layers=config.layers, n_heads=14, n_kv_heads=2,
        head_dim=64, d_ff=4864, max_positions=2048, family="qwen3", qk_norm="head",
    )  # fmt: skip
    place = Path(config.directory)
    params = init_params(shape, jax.random.key(0))
    kernel = np.random.default_rng(0).normal(size=shape.d_model)
    save_reward_model(
        place, shape, params, kernel, dtype="bfloat16", eos_token_id=1, pad_token_id=0
    )
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), VOCABULARY))]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, SPECIAL[0])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(place / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE,
        "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<pad>",
    }  # fmt: skip
    (place / "tokenizer_config.json").write_text(json.dumps(about))


def ours(config: Config, given: Texts) -> Callable[[], np.ndarray]:
    """What `irl-jax score` calls."""
    from irl_jax.data.jsonl import GroupRecord
    from irl_jax.recipes.published import published_scorer
    from irl_jax.recipes.read_config import ReadConfig
    from irl_jax.train.progress import Progress

    read = ReadConfig(batch_size=config.batch // 2, dtype=config.dtype)
    score = published_scorer(Path(config.directory), read, Progress(io.StringIO()))
    records = [
        GroupRecord(prompt, list(both), {}, str(i)) for i, (prompt, both) in enumerate(given)
    ]
    return lambda: np.stack(score(records))


def theirs(config: Config, given: Texts) -> Callable[[], np.ndarray]:
    """Batches of sequences in order of length, padded on the right to the longest of each."""
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    load: Any = AutoModelForSequenceClassification.from_pretrained
    model = load(config.directory, dtype=getattr(torch, config.dtype)).eval()
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(config.directory)

    def score() -> np.ndarray:
        chats = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": one}]
            for prompt, both in given
            for one in both
        ]
        whole = tokenizer.apply_chat_template(chats, tokenize=False)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        order = np.argsort([len(row) for row in ids], kind="stable")
        out = np.zeros(len(ids))
        for start in range(0, len(order), config.batch):
            rows = order[start : start + config.batch]
            padded = tokenizer.pad(
                {"input_ids": [ids[i] for i in rows]}, return_tensors="pt", padding_side="right"
            )
            with torch.inference_mode():
                out[rows] = model(**padded, use_cache=False).logits[:, 0].float().numpy()
        return out.reshape(-1, 2)

    return score


def work(config: Config) -> None:
    """Scores once a line of stdin, and says how long it took and what it needed."""
    start = time.perf_counter()
    score = {"irl_jax": ours, "transformers": theirs}[config.worker](config, texts(config))
    loading = time.perf_counter() - start
    for _ in sys.stdin:
        start, busy = time.perf_counter(), time.process_time()
        scores = score()
        found = {"seconds": time.perf_counter() - start, "loading": loading}
        found["busy"] = time.process_time() - busy
        print(json.dumps({**found, "peak": peak_memory(), "scores": scores.tolist()}), flush=True)


def main(config: Config) -> None:
    """Both libraries score the same pairs in turn, each in a process of its own."""
    if config.worker == "write":
        write(config)
    elif config.worker:
        work(config)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(config, f"{folder}/model")


def command(config: Config, worker: str, directory: str) -> list[str]:
    """The command of a worker."""
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    own |= {"worker": worker, "directory": directory}
    flags = [f"--{name}={value}" for name, value in own.items()]
    return [sys.executable, "-m", "experiments.benchmarks.reward_models", *flags]


def measure(config: Config, directory: str) -> None:
    """Passes in turn; the first one of each, which compiles, is told apart."""
    subprocess.run(command(config, "write", directory), check=True)
    names = ("irl_jax", "transformers")
    pipe = subprocess.PIPE
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    workers = {
        name: subprocess.Popen(command(config, name, directory), stdin=pipe, stdout=pipe, text=True)
        for name in names
    }
    for _ in range(config.rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[name].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    scores = [np.array(found[name][0]["scores"]) for name in names]
    apart = np.abs(scores[0] - scores[1]).max()
    print(f"{config.pairs} pairs in {config.dtype}; scores differ by {apart:.2g} at most, "
          f"their standard deviation is {scores[1].std():.3g}")  # fmt: skip
    for name in names:
        first, *later = found[name]
        print(
            f"{name:13} {spread([one['seconds'] for one in later], 's')}, "
            f"{spread([one['busy'] for one in later], 's of the processor')}; first pass "
            f"{first['seconds']:.4g} s and {first['busy']:.4g} s, loading "
            f"{first['loading']:.3g} s, peak {found[name][-1]['peak']:.2f} GiB"
        )
    for unit, what in (("seconds", "by the clock"), ("busy", "by seconds of the processor")):
        ratios = [b[unit] / a[unit] for a, b in zip(*found.values(), strict=True)]
        print(
            f"times as fast {what}: {statistics.median(ratios[1:]):.2f} "
            f"(min {min(ratios[1:]):.2f}); first pass {ratios[0]:.2f}"
        )


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
