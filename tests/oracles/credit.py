"""Credit in NumPy float64, by loops, and a language so small that all of it can be listed."""

import functools
import itertools

import numpy as np


class Language:
    """Strings of symbols, up to `length`, ended by symbol 0 or by the limit.

    Attributes:
        strings: every string, as tuples.
        reward: string -> its reward.
        policy: prefix -> probabilities of the next symbol.
    """

    def __init__(self, seed, symbols=3, length=3, quarters=False):
        rng = np.random.default_rng(seed)
        self.symbols, self.length = symbols, length
        self.policy, self.strings = {}, []
        for size in range(length + 1):
            for word in itertools.product(range(symbols), repeat=size):
                if 0 in word[:-1]:
                    continue
                if word and (word[-1] == 0 or size == length):
                    self.strings.append(word)
                else:
                    p = rng.dirichlet(np.ones(symbols))
                    if quarters:  # probabilities of which each rollout can have its share
                        p = rng.permutation([0.5, 0.25, 0.25])
                    self.policy[word] = p
        self.reward = {word: rng.standard_normal() for word in self.strings}
        self.value = functools.cache(self._value)

    def probability(self, word, given=()):
        return np.prod([self.policy[word[:t]][word[t]] for t in range(len(given), len(word))])

    def _value(self, prefix):
        """The expected reward of what begins so; of a whole string its reward."""
        rest = [w for w in self.strings if w[: len(prefix)] == prefix]
        return sum(self.probability(w, prefix) * self.reward[w] for w in rest)

    def rows(self, of):
        """of(string, t) of every action, padded with NaN, f64[N, T]."""
        out = np.full((len(self.strings), self.length), np.nan)
        for n, word in enumerate(self.strings):
            out[n, : len(word)] = [of(word, t) for t in range(len(word))]
        return out

    def gradient(self, credit):
        """Σ P(y) Σₜ credit[y, t] ∇ log π(yₜ | y_<t), by logits of each prefix."""
        found = {prefix: np.zeros(self.symbols) for prefix in self.policy}
        for n, word in enumerate(self.strings):
            for t, symbol in enumerate(word):
                slope = np.eye(self.symbols)[symbol] - self.policy[word[:t]]
                found[word[:t]] += self.probability(word) * credit[n, t] * slope
        return np.array([found[prefix] for prefix in self.policy])


def redistributed(total, prediction, mask, initial):
    """Arjona-Medina et al. 2018: differences of predictions, the last of which is the return."""
    out = np.zeros(np.shape(mask))
    for b in range(len(out)):
        at = np.flatnonzero(mask[b])
        g = [initial[b], *np.asarray(prediction)[b][at]]
        for i, t in enumerate(at):
            out[b, t] = (total[b] if i == len(at) - 1 else g[i + 1]) - g[i]
    return out


def attention_credit(total, attention, mask, beta):
    """Chan et al. 2024: β αₜ R, and the rest at the end."""
    out = np.zeros(np.shape(mask))
    for b in range(len(out)):
        at = np.flatnonzero(mask[b])
        whole = sum(attention[b][at])
        for t in at:
            share = attention[b][t] / whole if whole else float(t == at[-1])
            out[b, t] = total[b] * (beta * share + (1 - beta) * (t == at[-1]))
    return out


def segment_advantages(reward, value, mask, border, final_value):
    """Guo et al. 2025: a segment's rewards, and the value after it less that before it."""
    out = np.zeros(np.shape(mask))
    for b in range(len(out)):
        segments = []
        for t in np.flatnonzero(mask[b]):
            if border[b][t] or not segments:
                segments.append([])
            segments[-1].append(t)
        for k, segment in enumerate(segments):
            ends = k == len(segments) - 1
            after = final_value[b] if ends else value[b][segments[k + 1][0]]
            earned = sum(reward[b][t] for t in segment)
            out[b, segment] = earned + after - value[b][segment[0]]
    return out


def cutpoint_borders(probability, mask, threshold, cutpoints):
    """A segment ends with its n-th cutpoint."""
    border, cut = np.zeros((2, *np.shape(mask)), bool)
    for b in range(len(border)):
        left, begins = cutpoints, True
        for t in np.flatnonzero(mask[b]):
            border[b, t] = begins
            cut[b, t] = probability[b][t] < threshold
            left -= cut[b, t]
            begins = left == 0
            left = cutpoints if begins else left
    return border, cut


def tree_advantages(reward, branching):
    """Guo et al. 2025: the mean of the leaves below a node less that of those below its parent."""
    out = np.zeros((len(reward), len(branching)))
    for n, path in enumerate(itertools.product(*map(range, branching))):
        below = lambda depth, path=path: np.mean(
            [
                r
                for r, other in zip(reward, itertools.product(*map(range, branching)), strict=True)
                if other[:depth] == path[:depth]
            ]
        )
        out[n] = [below(d + 1) - below(d) for d in range(len(branching))]
    return out


def gigpo_advantages(reward, state, mask, omega, discount, scale):
    """Feng et al. 2025, eqs. 3, 6, 7 and 8."""
    eps = 1e-6

    def relative(x, others):
        apart = x - np.mean(others)
        spread = np.std(others, ddof=1) if len(others) > 1 else 0.0
        return apart / ((spread if spread > 0 else 1.0) + eps) if scale else apart

    out = np.zeros(np.shape(mask))
    for b, k, t in zip(*np.nonzero(mask), strict=True):
        total = [sum(r[m]) for r, m in zip(reward[b], mask[b], strict=True)]
        follows = {}
        for i, s in zip(*np.nonzero(mask[b]), strict=True):
            later = np.flatnonzero(mask[b, i])
            steps = later[later >= s]
            follows[i, s] = sum(discount**n * reward[b, i, u] for n, u in enumerate(steps))
        same = [g for at, g in follows.items() if state[b][at] == state[b, k, t]]
        out[b, k, t] = relative(total[k], total) + omega * relative(follows[k, t], same)
    return out
