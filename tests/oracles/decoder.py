"""A decoder in NumPy float64, one sequence and one head at a time, as the papers write it."""

import cmath
import math

import numpy as np


def rms_norm(x, scale, eps):
    """Zhang & Sennrich 2019, eq. 4, with ε under the root."""
    return np.array([row / math.sqrt(np.mean(row**2) + eps) * scale for row in x])


def frequencies(config):
    """Su et al. 2021, section 3.2.2; stretched by wavelength as in Llama 3.1."""
    found = []
    for i in range(config.head_dim // 2):
        f = config.rope_theta ** (-2 * i / config.head_dim)
        s = config.rope_scaling
        if s is not None:
            wavelength = 2 * math.pi / f
            longest = s.original_max_positions / s.low_freq_factor
            shortest = s.original_max_positions / s.high_freq_factor
            if wavelength > longest:
                f /= s.factor
            elif wavelength > shortest:
                ratio = s.original_max_positions / wavelength
                smooth = (ratio - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
                f = (1 - smooth) * f / s.factor + smooth * f
        found.append(f)
    return found


def rotate(x, frequency):
    """x[m] turned by m radians a frequency; element i and i + H/2 are one complex number."""
    half = len(frequency)
    out = np.empty_like(x)
    for m, row in enumerate(x):
        for i, f in enumerate(frequency):
            z = complex(row[i], row[i + half]) * cmath.exp(1j * m * f)
            out[m, i], out[m, i + half] = z.real, z.imag
    return out


def attention(config, params, x):
    """Ainslie et al. 2023: query head n reads the keys of group n // (heads per group)."""

    def heads(name, count):
        y = x @ params[name]["kernel"]
        if config.attention_bias:
            y = y + params[name]["bias"]
        return np.split(y, count, axis=1)

    frequency = frequencies(config)
    query = [rotate(q, frequency) for q in heads("q", config.n_heads)]
    key = [rotate(k, frequency) for k in heads("k", config.n_kv_heads)]
    value = heads("v", config.n_kv_heads)
    out = []
    for n in range(config.n_heads):
        group = n // (config.n_heads // config.n_kv_heads)
        head = []
        for t in range(len(x)):
            score = key[group][: t + 1] @ query[n][t] / math.sqrt(config.head_dim)
            weight = np.exp(score - score.max())
            head.append(weight / weight.sum() @ value[group][: t + 1])
        out.append(head)
    return np.concatenate(out, axis=1) @ params["o"]["kernel"]


def mlp(params, x):
    """Shazeer 2020, eq. 6 (SwiGLU)."""
    gate = x @ params["gate"]["kernel"]
    return (gate / (1 + np.exp(-gate)) * (x @ params["up"]["kernel"])) @ params["down"]["kernel"]


def select(tree, i):
    """Layer i of stacked parameters, in float64."""
    if isinstance(tree, dict):
        return {name: select(branch, i) for name, branch in tree.items()}
    return np.asarray(tree[i], np.float64)


def hidden(config, params, tokens):
    """Hidden states of one sequence after the final norm, f64[S, D]."""
    x = np.asarray(params["embed"]["embedding"], np.float64)[np.asarray(tokens)]
    for i in range(config.n_layers):
        layer = select(params["layers"], i)
        normed = rms_norm(x, layer["attn_norm"]["scale"], config.norm_eps)
        x = x + attention(config, layer["attn"], normed)
        normed = rms_norm(x, layer["mlp_norm"]["scale"], config.norm_eps)
        x = x + mlp(layer["mlp"], normed)
    scale = np.asarray(params["final_norm"]["scale"], np.float64)
    return rms_norm(x, scale, config.norm_eps)


def logits(config, params, tokens):
    """Next-token logits after every token of one sequence, f64[S, V]."""
    if config.tie_embeddings:
        kernel = np.asarray(params["embed"]["embedding"], np.float64).T
    else:
        kernel = np.asarray(params["unembed"]["kernel"], np.float64)
    return hidden(config, params, tokens) @ kernel


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def sequence_logp(config, params, tokens, temperature=1.0):
    """log p(tokens[t] | tokens[<t]), f64[S - 1], from the second token on."""
    table = log_softmax(logits(config, params, tokens)[:-1] / temperature)
    return table[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]
