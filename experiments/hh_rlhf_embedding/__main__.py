"""`python -m experiments.hh_rlhf_embedding`."""

from experiments import hh_rlhf_embedding
from experiments.hh_rlhf_embedding.config import CONFIG
from experiments.hh_rlhf_embedding.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=hh_rlhf_embedding.__doc__)
