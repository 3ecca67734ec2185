"""`python -m experiments.self_play`."""

from experiments import self_play
from experiments.self_play.config import CONFIG
from experiments.self_play.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=self_play.__doc__)
