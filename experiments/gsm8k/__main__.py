"""`python -m experiments.gsm8k`."""

from experiments import gsm8k
from experiments.gsm8k.config import CONFIG
from experiments.gsm8k.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=gsm8k.__doc__)
