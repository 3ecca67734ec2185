"""`python -m experiments.reward_transfer`."""

from experiments import reward_transfer
from experiments.reward_transfer.config import CONFIG
from experiments.reward_transfer.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=reward_transfer.__doc__)
