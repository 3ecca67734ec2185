"""`python -m experiments.gail_2016`."""

from experiments import gail_2016
from experiments.gail_2016.config import CONFIG
from experiments.gail_2016.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=gail_2016.__doc__)
