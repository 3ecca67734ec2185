"""A decoder in NumPy float64, one sequence and one head at a time, as the papers write it."""

import cmath
import math

import numpy as np

from irl_jax.models.decoder_config import LinearScaling, YarnScaling


def rms_norm(x, scale, eps):
    """Zhang & Sennrich 2019, eq. 4, with ε under the root."""
    return np.array([row / math.sqrt(np.mean(row**2) + eps) * scale for row in x])


def llama3(f, s):
    """Stretched by wavelength as in Llama 3.1."""
    wavelength = 2 * math.pi / f
    if wavelength > s.original_max_positions / s.low_freq_factor:
        return f / s.factor
    if wavelength > s.original_max_positions / s.high_freq_factor:
        ratio = s.original_max_positions / wavelength
        smooth = (ratio - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
        return (1 - smooth) * f / s.factor + smooth * f
    return f


def yarn(f, i, s, theta, size):
    """Peng et al. 2023, section 3.2, with the ramp over the index i as in the authors' code."""

    def index(turns):
        """The i whose frequency turns so often in the original context."""
        return size / 2 * math.log(s.original_max_positions / (2 * math.pi * turns), theta)

    low, high = index(s.beta_fast), index(s.beta_slow)
    if s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    share = min(max((i - low) / (high - low), 0), 1)
    return share * f / s.factor + (1 - share) * f


def frequencies(config, kind="global"):
    """Su et al. 2021, section 3.2.2, and the scalings of longer contexts."""
    size, s = config.rotary_dim or config.head_dim, config.rope_scaling
    if kind == "none":
        return [0.0] * (size // 2)
    theta = config.rope_theta if kind == "global" else config.local_rope_theta
    found = [theta ** (-2 * i / size) for i in range(size // 2)]
    if kind == "local" or s is None:
        return found
    if isinstance(s, LinearScaling):
        return [f / s.factor for f in found]
    if isinstance(s, YarnScaling):
        return [yarn(f, i, s, theta, size) for i, f in enumerate(found)]
    return [llama3(f, s) for f in found]


def rotate(x, frequency):
    """x[m] turned by m radians a frequency; element i and i + R/2 are one complex number."""
    half = len(frequency)
    out = x.copy()
    for m, row in enumerate(x):
        for i, f in enumerate(frequency):
            z = complex(row[i], row[i + half]) * cmath.exp(1j * m * f)
            out[m, i], out[m, i + half] = z.real, z.imag
    return out


def normed(config, x, scale):
    """The norm of a family: by its scale, or by 1 + scale (Gemma)."""
    return rms_norm(x, scale + 1 if config.norm_offset else scale, config.norm_eps)


def linear(params, x):
    y = x @ params["kernel"]
    return y + params["bias"] if "bias" in params else y


def attention(config, params, x, layer=0):
    """Ainslie et al. 2023: query head n reads the keys of group n // (heads per group)."""

    def heads(name, count):
        y = linear(params[name], x)
        if config.qk_norm == "width" and name != "v":
            y = normed(config, y, params[f"{name}_norm"]["scale"])
        found = np.split(y, count, axis=1)
        if config.qk_norm == "head" and name != "v":
            found = [normed(config, y, params[f"{name}_norm"]["scale"]) for y in found]
        return found

    kind = config.ropes[layer] if config.ropes else "global"
    window = config.windows[layer] if config.windows else None
    frequency = frequencies(config, kind)
    yarned = isinstance(config.rope_scaling, YarnScaling) and kind == "global"
    stretch = config.rope_scaling.attention_factor if yarned else 1.0

    def turned(x):
        r = 2 * len(frequency)
        y = rotate(x, frequency)
        return np.concatenate([stretch * y[:, :r], y[:, r:]], axis=1)

    query = [turned(q) for q in heads("q", config.n_heads)]
    key = [turned(k) for k in heads("k", config.n_kv_heads)]
    value = heads("v", config.n_kv_heads)
    out = []
    for n in range(config.n_heads):
        group = n // (config.n_heads // config.n_kv_heads)
        head = []
        for t in range(len(x)):
            seen = slice(0 if window is None else max(0, t + 1 - window), t + 1)
            score = key[group][seen] @ query[n][t]
            score = score / math.sqrt(config.query_scalar or config.head_dim)
            score = capped(score, config.attention_softcap)
            weight = np.exp(score - score.max())
            head.append(weight / weight.sum() @ value[group][seen])
        out.append(head)
    return linear(params["o"], np.concatenate(out, axis=1))


def capped(x, cap):
    return x if cap is None else cap * np.tanh(x / cap)


def activation(config, x):
    if config.activation == "silu":
        return x / (1 + np.exp(-x))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def routes(config, params, x):
    """For each token its probability of every expert, and the k experts it goes through."""
    for row in linear(params["router"], x):
        prob = np.exp(row - row.max())
        prob = prob / prob.sum()
        yield prob, np.argsort(-prob, kind="stable")[: config.experts_per_token]


def mlp(config, params, x):
    """Shazeer 2020, eq. 6 (SwiGLU, GEGLU); Jiang et al. 2024, section 2.1 (Mixtral)."""
    if "router" in params:
        out = np.zeros_like(x)
        for t, (prob, chosen) in enumerate(routes(config, params, x)):
            total = prob[chosen].sum() if config.normalize_experts else 1.0
            for e in chosen:
                expert = select(params["experts"], e)
                out[t] += prob[e] / total * mlp(config, expert, x[t : t + 1])[0]
        return out
    gate, up = linear(params["gate"], x), linear(params["up"], x)
    return linear(params["down"], activation(config, gate) * up)


def select(tree, i):
    """Layer i of stacked parameters, in float64."""
    if isinstance(tree, dict):
        return {name: select(branch, i) for name, branch in tree.items()}
    return np.asarray(tree[i], np.float64)


def hidden(config, params, tokens):
    """Hidden states of one sequence after the final norm, f64[S, D]."""
    return trace(config, params, tokens)[0]


def trace(config, params, tokens):
    """`hidden`, and for each layer what its MLP read, f64[L, S, D]."""
    x = np.asarray(params["embed"]["embedding"], np.float64)[np.asarray(tokens)]
    if config.scale_embeddings:
        x = x * math.sqrt(config.d_model)
    read = []
    for i in range(config.n_layers):
        layer = select(params["layers"], i)
        for name, f in (("attn", attention), ("mlp", mlp)):
            more = (i,) if name == "attn" else ()
            y = x
            if config.norms in ("pre", "both"):
                y = normed(config, y, layer[f"{name}_norm"]["scale"])
            read += [y] if name == "mlp" else []
            y = f(config, layer[name], y, *more)
            if config.norms in ("post", "both"):
                y = normed(config, y, layer[f"{name}_post_norm"]["scale"])
            x = x + y
    return normed(config, x, np.asarray(params["final_norm"]["scale"], np.float64)), read


def load_balance(config, params, sequences):
    """Fedus et al. 2021, eq. 4-6, over the tokens of all layers, every choice counted."""
    used, mean, count = np.zeros(config.n_experts), np.zeros(config.n_experts), 0
    for tokens in sequences:
        for i, x in enumerate(trace(config, params, tokens)[1]):
            for prob, chosen in routes(config, select(params["layers"], i)["mlp"], x):
                used[chosen] += 1
                mean += prob
                count += 1
    return config.n_experts * np.sum(used / count * mean / count)


def logits(config, params, tokens):
    """Next-token logits after every token of one sequence, f64[S, V]."""
    if config.tie_embeddings:
        kernel = np.asarray(params["embed"]["embedding"], np.float64).T
    else:
        kernel = np.asarray(params["unembed"]["kernel"], np.float64)
    return capped(hidden(config, params, tokens) @ kernel, config.logit_softcap)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def sequence_logp(config, params, tokens, temperature=1.0):
    """log p(tokens[t] | tokens[<t]), f64[S - 1], from the second token on."""
    table = log_softmax(logits(config, params, tokens)[:-1] / temperature)
    return table[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]
