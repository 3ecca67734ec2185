"""`python -m experiments.quickstart`."""

from experiments import quickstart
from experiments.quickstart.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=quickstart.__doc__)
