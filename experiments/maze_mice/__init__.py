"""What mice want in a labyrinth: rewards inferred from where real animals went.

A mouse explores a maze that is a binary tree of 63 junctions and 64 dead ends (Rosenberg et al.
2021, eLife 10:e66175), in one session with water at the dead end 116, in another without. Maximum
causal entropy inverse RL finds the reward of each place, under which the mouse's turns are likely
(`irl_jax.dynamics.planning`). Is there a peak at the water? And does a reward tell the turns of
bouts that it was not fitted to better than counting turns does?

Data: the sessions D9a (water) and D9b (none) of
    https://github.com/markusmeister/Rosenberg-2021-Repository (MIT), as one .npz: of each session
    `D9a_node` i16[N], the nodes in the order visited (the children of n are 2n + 1 and 2n + 2,
    127 is outside), and `D9a_bout`, the number of the bout that each belongs to.
Claim: The water's place is worth more than the other dead ends in the session with water, and no
    less in the one without, so that the reward does not say where there is water. Counting turns
    with the last node known predicts as well as any reward. A reward of each turn does too; rewards
    of nodes do no better than counting turns, and a second intention adds nothing.
Command: python -m experiments.maze_mice --data nodes.npz
Runtime: 9 min 53 s beside other runs, 322 s of CPU; peak memory 0.8 GiB.
Expected: experiments/maze_mice/expected.md. With water the place is 0.35 nats above the other dead
    ends, without 0.50.
"""
