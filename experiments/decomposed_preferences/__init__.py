"""What a few comparisons tell of a new annotator: directions of preference, and mixtures.

Decomposed reward models (Luo et al. 2025, arXiv 2502.13131) take the principal directions of many
people's comparisons as rewards, and weigh them for each new person. Here people's values are known:
each annotator has weights on five attributes of 64 features, and gives Bradley-Terry labels. The
directions are learned from 200 annotators with 50 comparisons each. A new annotator gives up to 50.

They are compared with the reward of the whole population; with a mixture of rewards, weighed by a
new annotator's posterior; with directions of the annotators' mean comparisons, which use who
compared what; with random and true directions; and with features without other people.

Claim: Where people differ along the features' main axes, principal directions adapt as well as the
    true ones. Where they do not, principal directions are no better than random ones. The labels
    hardly enter them: a flipped label leaves the second moment as it is. Directions of annotators'
    means work in either case. A mixture is best where there are a few types of people.
Command: python -m experiments.decomposed_preferences
    (--features language_model.npz of a run of experiments.hh_rlhf_embedding adds real features)
Runtime: 1 min 9 s on 2 idle cores; 155 s of CPU with real features; peak memory 0.5 GiB.
Expected: experiments/decomposed_preferences/expected.md. On main axes principal directions raise
    accuracy from 0.615 to 0.710 by 10 comparisons.
"""
