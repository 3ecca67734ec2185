"""`python -m experiments.preference_to_policy`."""

from experiments import preference_to_policy
from experiments.preference_to_policy.config import CONFIG
from experiments.preference_to_policy.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=preference_to_policy.__doc__)
