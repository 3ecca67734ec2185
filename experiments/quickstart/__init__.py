"""From comparisons to a better policy: the whole of irl_jax in one run.

A language model answers short prompts, and an annotator compares its answers. An ensemble of reward
models on the language model's own embeddings learns what the annotator likes. GRPO moves the
language model (a LoRA on it) towards what the ensemble rewards. The annotator's true taste is the
valence that VADER gives a text; only the annotator and the final measurement see it.

Claim: A reward learned from noisy comparisons improves the model that wrote what was compared: the
    gold reward on held-out prompts rises. The report shows against KL whether the learned reward
    was over-optimised.
Command: make quickstart (or: python -m experiments.quickstart --help)
Runtime: 6 to 7.5 minutes on 2 cores, of which three quarters are GRPO; peak memory 5.1 GiB.
Expected: experiments/quickstart/expected.md. The gold reward rises by 0.65 to 0.77 on each of five
    seeds.
"""
