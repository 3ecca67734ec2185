"""Curriculum: which questions a small decoder should practise, at equal numbers of solutions.

A decoder that was shown a few sums of two, three and four numbers practises others by GRPO: of all
levels alike, of the hardest alone, from easy to hard, those with most to teach by p(1 − p), of
levels that a bandit draws by the size of advantages, or of the hardest with the beginning of their
solution. The control is all levels alike, and the hardest alone for what is begun.

Claim: Nothing is surely better over all levels than all of them alike. The bandit gains on the
    easiest level; the hardest level alone, begun or not, gains there and forgets the others.
Command: python -m experiments.curriculum
Runtime: 30 min 21 s on one core beside many other runs, 20 minutes of CPU.
Expected: experiments/curriculum/expected.md. In two draws answers are right in 8 % before, 19 and
    18 % after all levels alike, 22 and 20 % after the bandit, 18 and 17 % after the filter, 13 and
    11 % after the hardest level alone.
"""
