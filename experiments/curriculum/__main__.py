"""`python -m experiments.curriculum`."""

from experiments import curriculum
from experiments.curriculum.config import CONFIG
from experiments.curriculum.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=curriculum.__doc__)
