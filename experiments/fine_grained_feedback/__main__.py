"""`python -m experiments.fine_grained_feedback`."""

from experiments import fine_grained_feedback
from experiments.fine_grained_feedback.config import CONFIG
from experiments.fine_grained_feedback.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=fine_grained_feedback.__doc__)
