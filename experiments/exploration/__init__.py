"""Bonuses for what is new, where a treasure is found only by going right all the way.

In DeepSea (`envs.exploration`) a diver comes down a row a step; only one way out of 2^N finds the
treasure, and each step towards it costs something. Q-learning of a table explores greedily, by
dithering, by bonuses of counts and of random network distillation, and, as a control, by counts of
other states and actions.

Claim: Bonuses for what is new solve seas that dithering does not, the faster the sooner they fade;
    those of other states and actions solve none.
Command: python -m experiments.exploration
Runtime: 4 min 19 s, 41 s of CPU, on one core beside other runs.
Expected: experiments/exploration/expected.md. With 30 rows a random
    network solves the sea in 1,140 episodes, counts and dithering not in 10,000.
"""
