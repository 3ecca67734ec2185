"""`python -m experiments.exploration`."""

from experiments import exploration
from experiments.exploration.config import CONFIG
from experiments.exploration.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=exploration.__doc__)
