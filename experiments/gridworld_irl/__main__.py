"""`python -m experiments.gridworld_irl`."""

from experiments import gridworld_irl
from experiments.gridworld_irl.config import CONFIG
from experiments.gridworld_irl.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=gridworld_irl.__doc__)
