"""Does a decoder learn a guessing game in words faster by advantages of turns than of episodes?

A number from 1 to 7 is hidden, the policy writes a guess, is told "higher" or "lower", and writes
the next one, for at most five turns. Runs differ in the advantages alone, at equal episodes: one
for all tokens of an episode, one for each turn (what follows it, against turns of equal number),
and GiGPO's, of episodes and of turns that were taken after the same words.

Claim: not yet measured.
Command: python -m experiments.text_games
Runtime: not yet measured.
Expected: experiments/text_games/expected.md.
"""
