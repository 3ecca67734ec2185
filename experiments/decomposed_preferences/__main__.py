"""`python -m experiments.decomposed_preferences`."""

from experiments import decomposed_preferences
from experiments.decomposed_preferences.study import CONFIG, main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=decomposed_preferences.__doc__)
