"""`python -m experiments.proposer_solver`."""

from experiments import proposer_solver
from experiments.proposer_solver.config import CONFIG
from experiments.proposer_solver.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=proposer_solver.__doc__)
