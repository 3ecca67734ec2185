"""`python -m experiments.process_rewards`."""

from experiments import process_rewards
from experiments.process_rewards.config import CONFIG
from experiments.process_rewards.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=process_rewards.__doc__)
