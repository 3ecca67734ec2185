"""A language small enough to be written down: every completion, its chance and its gradient.

A completion ends with the last symbol, EOS, or after `length` symbols. The policy has a logit for
each symbol after each prefix, f64[S, V]; a gradient by them is exact, over all completions.
"""

import itertools

import numpy as np


class Language:
    """All completions of a tabular language model, in NumPy float64.

    Attributes:
        action: i32[N, T], the completions; mask: bool[N, T], their tokens.
        state: i32[N, T], the prefix before each token; after: i32[N, T], the one after it, −1 where
            the completion is over.
        terminated: bool[N], those that end with EOS.
    """

    def __init__(self, symbols: int = 3, length: int = 2):
        eos = symbols - 1
        prefixes = [p for n in range(length) for p in itertools.product(range(eos), repeat=n)]
        self.index = {prefix: i for i, prefix in enumerate(prefixes)}
        done = [(*p, eos) for p in prefixes]
        done += list(itertools.product(range(eos), repeat=length))
        self.shape, shape = (len(prefixes), symbols), (len(done), length)
        self.action, self.state = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        self.after, self.mask = np.full(shape, -1, np.int32), np.zeros(shape, bool)
        for i, completion in enumerate(done):
            for t, symbol in enumerate(completion):
                self.action[i, t], self.mask[i, t] = symbol, True
                self.state[i, t] = self.index[completion[:t]]
                self.after[i, t] = self.index.get(completion[: t + 1], -1)
        self.terminated = np.array([completion[-1] == eos for completion in done])

    def draw(self, seed: int = 0, scale: float = 1.0) -> np.ndarray:
        """Random logits, f64[S, V]."""
        return scale * np.random.default_rng(seed).standard_normal(self.shape)

    def logp(self, logits: np.ndarray) -> np.ndarray:
        """log π of each token, f64[N, T]; 0 outside the mask."""
        return np.where(self.mask, log_softmax(logits)[self.state, self.action], 0.0)

    def chance(self, logits: np.ndarray) -> np.ndarray:
        """π of each completion, f64[N]."""
        return np.exp(self.logp(logits).sum(-1))

    def token_scores(self, logits: np.ndarray) -> np.ndarray:
        """∇ log π of each token by the logits, f64[N, T, S, V]."""
        out = np.zeros((*self.action.shape, *self.shape))
        for i, t in np.argwhere(self.mask):
            out[i, t, self.state[i, t]] -= np.exp(log_softmax(logits)[self.state[i, t]])
            out[i, t, self.state[i, t], self.action[i, t]] += 1.0
        return out

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """∇ log π of each completion by the logits, f64[N, S, V]."""
        return self.token_scores(logits).sum(1)

    def gradient(self, logits: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """∇ E[worth of a completion], f64[S, V], the worth f64[N] a constant."""
        return np.einsum("n,n,nsv->sv", self.chance(logits), worth, self.scores(logits))

    def groups(self, logits: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Every group of completions, i64[G, K], and its chance, f64[G]."""
        every = np.array(list(itertools.product(range(len(self.action)), repeat=size)))
        return every, self.chance(logits)[every].prod(-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """On the last axis."""
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
