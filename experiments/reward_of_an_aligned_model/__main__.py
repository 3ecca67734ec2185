"""`python -m experiments.reward_of_an_aligned_model`."""

from experiments import reward_of_an_aligned_model
from experiments.reward_of_an_aligned_model.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=reward_of_an_aligned_model.__doc__)
