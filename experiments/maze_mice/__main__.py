"""`python -m experiments.maze_mice`."""

from experiments import maze_mice
from experiments.maze_mice.config import CONFIG
from experiments.maze_mice.study import main
from irl_jax.recipes.cli import run

if __name__ == "__main__":
    run(main, CONFIG, description=maze_mice.__doc__)
