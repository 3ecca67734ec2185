"""Ways to assign credit for a reward at the end, at equal steps, where the right credit is known.

In a corridor of 20 steps the policy begins as uncertain at a few of them and sure of one action at
the others. At some of those in doubt, the forks, one action is right, and only the reward at the
end, 0 or 1 by chance, tells how many were. Policies of a table learn by policy gradients that
differ only in what an action is credited with: the reward over that of other episodes, advantages
over a critic, its differences, RUDDER, ABC, GiGPO, VinePPO, SPO-chain and SPO-tree, and, told what
nobody knows, exact advantages and potentials. Learning rates are chosen on other corridors. Steps
of the rollouts that Monte Carlo values cost are counted.

Claim: Exact advantages need a small part of the steps that the terminal reward needs, and nothing
    that has to be estimated from the same steps is surely better than the terminal reward.
    Rollouts for Monte Carlo values cost more than they bring.
Command: python -m experiments.credit_assignment
Runtime: 7 min 6 s, 180 s of CPU, on one core beside other runs.
Expected: experiments/credit_assignment/expected.md. With five forks exact
    advantages learn in 240 steps, the terminal reward in 9,100, VinePPO in 38,000 or more.
"""
