"""How good a reward or a policy is."""
