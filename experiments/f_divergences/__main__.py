"""`python -m experiments.f_divergences`."""

from experiments import f_divergences
from experiments.f_divergences.config import CONFIG
from experiments.f_divergences.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=f_divergences.__doc__)
