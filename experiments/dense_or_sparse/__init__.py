"""Dense or sparse: a reward at the end, or a teacher at every token, at equal compute."""
