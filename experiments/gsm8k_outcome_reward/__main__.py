"""`python -m experiments.gsm8k_outcome_reward`."""

from experiments import gsm8k_outcome_reward
from experiments.gsm8k_outcome_reward.config import CONFIG
from experiments.gsm8k_outcome_reward.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=gsm8k_outcome_reward.__doc__)
