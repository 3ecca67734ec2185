"""`python -m experiments.preference_to_policy`."""

from experiments.preference_to_policy.study import command

if __name__ == "__main__":
    command()
