"""`python -m experiments.overoptimisation`."""

from experiments import overoptimisation
from experiments.overoptimisation.config import CONFIG
from experiments.overoptimisation.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=overoptimisation.__doc__)
