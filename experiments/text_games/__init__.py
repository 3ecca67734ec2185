"""Does a decoder learn a guessing game in words faster by advantages of turns than of episodes?

A number from 1 to 7 is hidden, the policy writes a guess, is told "higher" or "lower", and writes
the next one, for at most five turns (`rollout.turns`). Runs differ in the advantages alone, at
equal episodes: one for all tokens of an episode, its reward against the others', or one for each
turn, what follows it against what follows turns of equal number.

Claim: Advantages of turns are not surely better than those of episodes in this game: the
    difference is of either sign in two draws of ten seeds.
Command: python -m experiments.text_games
Runtime: 15 min 33 s, 379 s of CPU, on two cores beside many other runs.
Expected: experiments/text_games/expected.md. After 33,600 episodes the return is
    0.24 and 0.27 by episodes, 0.32 and 0.25 by turns; halving earns 0.757.
"""
