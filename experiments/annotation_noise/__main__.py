"""`python -m experiments.annotation_noise`."""

from experiments import annotation_noise
from experiments.annotation_noise.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=annotation_noise.__doc__)
