"""`python -m experiments.text_games`."""

from experiments import text_games
from experiments.text_games.config import CONFIG
from experiments.text_games.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=text_games.__doc__)
