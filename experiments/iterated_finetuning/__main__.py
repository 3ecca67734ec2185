"""`python -m experiments.iterated_finetuning`."""

from experiments import iterated_finetuning
from experiments.iterated_finetuning.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=iterated_finetuning.__doc__)
