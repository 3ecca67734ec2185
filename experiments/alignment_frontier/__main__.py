"""`python -m experiments.alignment_frontier`."""

from experiments import alignment_frontier
from experiments.alignment_frontier.config import CONFIG
from experiments.alignment_frontier.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=alignment_frontier.__doc__)
