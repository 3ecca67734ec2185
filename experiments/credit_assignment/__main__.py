"""`python -m experiments.credit_assignment`."""

from experiments import credit_assignment
from experiments.credit_assignment.config import CONFIG
from experiments.credit_assignment.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=credit_assignment.__doc__)
