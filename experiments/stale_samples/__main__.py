"""`python -m experiments.stale_samples`."""

from experiments import stale_samples
from experiments.stale_samples.config import CONFIG
from experiments.stale_samples.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=stale_samples.__doc__)
