"""`python -m experiments.score`."""

from experiments import score
from experiments.score.config import CONFIG
from experiments.score.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=score.__doc__)
