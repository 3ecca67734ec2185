"""`python -m experiments.hindsight`."""

from experiments import hindsight
from experiments.hindsight.config import CONFIG
from experiments.hindsight.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=hindsight.__doc__)
