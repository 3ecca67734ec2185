"""`python -m experiments.demonstration_rewards`."""

from experiments import demonstration_rewards
from experiments.demonstration_rewards.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=demonstration_rewards.__doc__)
