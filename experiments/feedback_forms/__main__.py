"""`python -m experiments.feedback_forms`."""

from experiments import feedback_forms
from experiments.feedback_forms.config import CONFIG
from experiments.feedback_forms.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=feedback_forms.__doc__)
