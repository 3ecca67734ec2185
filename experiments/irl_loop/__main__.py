"""`python -m experiments.irl_loop`."""

from experiments import irl_loop
from experiments.irl_loop.config import CONFIG
from experiments.irl_loop.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=irl_loop.__doc__)
