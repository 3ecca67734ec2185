"""`python -m experiments.score`."""

from experiments import score
from irl_jax.recipes.cli import run
from irl_jax.recipes.score import main
from irl_jax.recipes.score_config import CONFIG

if __name__ == "__main__":
    run(main, CONFIG, description=score.__doc__)
