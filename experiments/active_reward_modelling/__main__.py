"""`python -m experiments.active_reward_modelling`."""

from experiments import active_reward_modelling
from experiments.active_reward_modelling.config import CONFIG
from experiments.active_reward_modelling.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=active_reward_modelling.__doc__)
