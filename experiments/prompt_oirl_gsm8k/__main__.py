"""`python -m experiments.prompt_oirl_gsm8k`."""

from experiments import prompt_oirl_gsm8k
from experiments.prompt_oirl_gsm8k.config import CONFIG
from experiments.prompt_oirl_gsm8k.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=prompt_oirl_gsm8k.__doc__)
