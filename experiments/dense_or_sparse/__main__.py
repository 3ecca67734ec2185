"""`python -m experiments.dense_or_sparse`."""

from experiments import dense_or_sparse
from experiments.dense_or_sparse.config import CONFIG
from experiments.dense_or_sparse.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=dense_or_sparse.__doc__)
