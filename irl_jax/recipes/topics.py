"""Prompts of the demonstration experiments: everyday things, to be described.

Many of the things are dull or annoying, so that descriptions by an untuned model
are neither all cheerful nor all gloomy: there is something to learn.
"""

from __future__ import annotations

import numpy as np

from irl_jax.types import InputError

TOPICS = """
a rainy Monday; a broken umbrella; the dentist; a traffic jam; an old bus station; a lost key;
the night shift; a cold cup of coffee; a long queue; an empty fridge; a small village;
a winter morning; a library; a noisy neighbour; a delayed train; a wedding; a phone call;
a school exam; a garden in autumn; a ferry crossing; the first snow; a flat tyre; a tax form;
a crowded beach; a mountain path; a street musician; an old dog; a power cut; a village market;
a job interview; a hospital corridor; a birthday cake; a football match; a storm at sea;
a quiet street; a new neighbour; a burnt dinner; a hotel lobby; a museum; a bicycle ride;
a leaking roof; a mouse in the kitchen; a letter from a friend; a morning run; a desert road;
a broken watch; a city at night; a fishing boat; a piano lesson; a moving day; a haircut;
a shopping list; a campfire; an airport; a spider; a computer crash; a Sunday afternoon;
a picnic; a steep staircase; a foggy bridge; a parking ticket; a rusty gate; an elevator;
a chess game; a wet tent; a sleepless night; a family dinner; a bakery; a border crossing;
a hot summer; an office party; a farm; a river in flood; an early flight; a toothache;
a church bell; a lighthouse; a waiting room; a broken promise; a swimming pool
"""


def topics(count: int, seed: int) -> list[str]:
    """A random choice of topics, in random order, no topic twice.

    Raises:
        InputError: if `count` is more than there are.
    """
    names = [" ".join(topic.split()) for topic in TOPICS.split(";")]
    if count > len(names):
        raise InputError(f"prompts: asked for {count}, but there are only {len(names)} topics")
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    return [names[i] for i in order[:count]]


def prompt_of(topic: str) -> str:
    """What is asked of the model."""
    return f"Describe {topic} in one short sentence."
