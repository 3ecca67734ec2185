"""`python -m experiments.adversarial_imitation`."""

from experiments import adversarial_imitation
from experiments.adversarial_imitation.config import CONFIG
from experiments.adversarial_imitation.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=adversarial_imitation.__doc__)
