"""A BERT encoder in NumPy float64, one text at a time."""

import math

import numpy as np


def _dense(p, x):
    return x @ p["kernel"].astype(np.float64) + p["bias"]


def _norm(p, x, eps):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * p["scale"] + p["bias"]


def encode(config, params, tokens):
    """The unit vector of one text, f64[D]; tokens i[T] without padding."""
    table = lambda name: params[name]["embedding"].astype(np.float64)
    x = table("word")[tokens] + table("type")[0] + table("position")[: len(tokens)]
    x = _norm(params["norm"], x, config.norm_eps)
    size = config.d_model // config.n_heads
    for i in range(config.n_layers):
        p = {k: {n: leaf[i] for n, leaf in v.items()} for k, v in params["layers"].items()}
        q, k, v = (_dense(p[name], x) for name in "qkv")
        heads = []
        for h in range(config.n_heads):
            part = slice(h * size, (h + 1) * size)
            score = q[:, part] @ k[:, part].T / math.sqrt(size)
            weight = np.exp(score - score.max(1, keepdims=True))
            heads.append(weight / weight.sum(1, keepdims=True) @ v[:, part])
        x = _norm(p["attn_norm"], x + _dense(p["o"], np.concatenate(heads, 1)), config.norm_eps)
        inner = _dense(p["up"], x)
        gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = _norm(p["mlp_norm"], x + _dense(p["down"], gelu), config.norm_eps)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
