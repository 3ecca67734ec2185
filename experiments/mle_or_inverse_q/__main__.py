"""`python -m experiments.mle_or_inverse_q`."""

from experiments import mle_or_inverse_q
from experiments.mle_or_inverse_q.config import CONFIG
from experiments.mle_or_inverse_q.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=mle_or_inverse_q.__doc__)
