"""`python -m experiments.guided_decoding`."""

from experiments import guided_decoding
from experiments.guided_decoding.config import CONFIG
from experiments.guided_decoding.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=guided_decoding.__doc__)
