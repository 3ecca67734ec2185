"""Self-play: does one policy on both sides of a game come to an equilibrium, and what helps it?

Kuhn poker, whose equilibria are known, by a table and by a small decoder (`recipes.self_play`).
Exploitability is exact, all along the run. Plain policy gradients stand beside gradients held to a
reference that is refreshed (Nash policy gradient), each with SPIRAL's baseline of each role, with
one that both roles share and with none; also where a handicap makes one role earn more.

Claim: Held to a reference that is refreshed, self-play by a table ends near an equilibrium with
    every seed; plain self-play with none. The baseline of each role helps where roles earn
    differently, and only there.
Command: python -m experiments.self_play
Runtime: 6 min 36 s, 253 s of CPU, on one core beside other runs.
Expected: experiments/self_play/expected.md. On Kuhn poker exploitability ends at 0.008
    held and 0.129 plain, of a decoder at 0.010 and 0.258.
"""
