"""Rewards of cells in a grid, recovered from demonstrations as far as demonstrations tell them.

Twenty rewards of the cells of a grid are drawn. Demonstrators who plan softly for them are imitated
by maximum causal entropy inverse RL, which learns a reward of cells, or one of cells and moves.
Demonstrations tell the second only up to r(s, a) = v(s) − γ E v(s')
(`irl_jax.eval.identification`), and so do the log-probs of the moves themselves, which take no
planning. Is what is identified recovered? And is it enough where the grid has new walls, or
where its moves are turned?

Claim: All three recover what is identified, and the best policy of the grid they were shown. A
    reward of cells is identified but for a constant, and right in changed grids too. The other two
    are not, however many demonstrations there are.
Command: python -m experiments.gridworld_irl
Runtime: 1 min 14 s, 36 s of CPU, on one core; peak memory 0.7 GiB.
Expected: experiments/gridworld_irl/expected.md. At 10,000 demonstrations the error of what is
    identified is 3 to 8 %; the regret of rewards of cells and moves in a changed grid is 0.16.
"""
