"""`python -m experiments.r1_zero`."""

from experiments import r1_zero
from experiments.r1_zero.config import CONFIG
from experiments.r1_zero.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=r1_zero.__doc__)
