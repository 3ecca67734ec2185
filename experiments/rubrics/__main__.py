"""`python -m experiments.rubrics`."""

from experiments import rubrics
from experiments.rubrics.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=rubrics.__doc__)
