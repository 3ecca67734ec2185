"""`python -m experiments.dense_rewards`."""

from experiments import dense_rewards
from experiments.dense_rewards.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=dense_rewards.__doc__)
