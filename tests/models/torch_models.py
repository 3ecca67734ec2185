"""Random models of transformers, and how far our logits are from theirs."""

import numpy as np
import pytest

EXTRA = 'needs pip install "irl_jax[parity]"'
torch = pytest.importorskip("torch", reason=EXTRA)
transformers = pytest.importorskip("transformers", reason=EXTRA)


def random_model(config, seed=0):
    """A transformers model all of whose parameters matter (norms and biases too)."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, 1.5 * parameter.shape[-1] ** -0.5)
    return model.eval()


def batch(vocab_size, rows=3, length=48, seed=0):
    """Tokens, and a mask with another number of columns of left padding in each row."""
    tokens = np.random.default_rng(seed).integers(0, vocab_size, (rows, length))
    mask = np.arange(length) >= (np.arange(rows) * 7)[:, None]
    return tokens, mask


def theirs(model, tokens, mask):
    with torch.no_grad():
        out = model(torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int)))
    return out.logits.float().numpy()


def error(got, want, mask):
    """Largest difference at tokens, relative to the largest logit."""
    return np.abs(np.asarray(got) - want)[mask].max() / np.abs(want[mask]).max()
