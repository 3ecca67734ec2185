"""Mode covering against mode seeking: f-divergences minimised exactly in grids, and on control.

An expert draws one of two corners of a grid at the start of each episode and goes there. Imitators
minimise an f-divergence D_f(ρ_E‖ρ_π) of visits to states and actions exactly, by gradients through
planning: policies of the same moves in every cell, soft-optimal ones of a reward that is linear in
row and column, soft-optimal ones of a reward of cells, and any policy. Which corners do they visit,
and what do they do off the expert's support?

On control an expert balances a pole on a cart, and goes to the right or to the left. PPO learns by
what a discriminator's log-ratio becomes in each divergence: linear policies, that can go to one
place, networks, and, for comparison, linear policies of an expert who goes to one place.

Claim: Where no policy of the class goes to both corners, χ² and forward KL spread over both and the
    cells between, and Jensen-Shannon and reverse KL go to one. A class that holds the expert makes
    them all the same. On control linear policies cover the less covered place less by reverse KL
    than by forward KL in one of two runs; networks, and an expert of one place, in none.
Command: python -m experiments.f_divergences
Runtime: 2 min 14 s, 74 s of CPU, on one core beside other runs; control takes 12 minutes more
    there, some 180 s of CPU.
Expected: experiments/f_divergences/expected.md. With a reward of coordinates the less covered
    corner has 0.50 of the expert's visits by forward KL and 0.17 by reverse KL.
"""
