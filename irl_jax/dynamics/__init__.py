"""Differentiable RL maths: returns, advantages, planning, shaping."""
