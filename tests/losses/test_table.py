"""The table of published losses: each row can be called as it says, each spelling is found."""

import inspect

import pytest

from irl_jax import losses
from irl_jax.losses.table import LOSSES, canonical, look_up, of_function
from irl_jax.types import InputError

# Hyper-parameters that are of the batch or of the objective, and not of the loss itself.
OUTSIDE = {
    "ppo": {"value_clip", "value_weight"},
    "nash_md": {"tau", "share", "opponents"},
    "pkpo": {"k"},
    "gkd": {"beta"},
    "spin": {"every"},
    "iq_learn_online": {"discount"},
}
# What the form gives the loss beside log-probs or rewards and the batch.
GIVEN = {
    "mismatched_kl": {"kl"},
    "on_policy_weight": {"share"},
    "group": {"advantage"},
    "whitened": {"advantage"},
    "token_baseline": {"advantage"},
    "critic": {"advantage"},
    "greedy": {"advantage"},
    "mixture": {"advantage"},
    "exploring": {"explore"},
    "self_play": {"win"},
    "cutpoints": {"cutpoints"},
    "taught": {"teacher_logp"},
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_gives_all_that_its_loss_needs(name):
    row = LOSSES[name]
    parameters = dict(inspect.signature(row.loss).parameters)
    if row.reward is not None:
        parameters |= inspect.signature(row.reward).parameters
    keywords = {k for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    set_here = {*row.defaults, *row.fixed} - OUTSIDE.get(name, set())
    assert open_ended or set_here <= keywords
    needed = {k for k in keywords if parameters[k].default is inspect.Parameter.empty}
    length = {"length"} if name == "dr_grpo" else set()  # of the longest completion
    assert needed - GIVEN.get(row.form, set()) - length <= set_here
    assert (row.advantage is not None) == (row.form == "group")
    alone = row.form in ("opponent", "own_soft_q")
    assert (row.reward is not None or alone) == (row.trains == "both")


def test_names_are_those_of_the_functions():
    """A search for the name of a row finds the function."""
    elsewhere = {"sft", "iq_learn", "rloo", "maxrl", "pkpo", "otb", "raft", "remax", "nash_md"}
    elsewhere |= {"online_dpo", "tpo_l", "r_airl", "spin"}
    for name, row in LOSSES.items():
        if name not in elsewhere:
            assert (row.reward or row.loss) is getattr(losses, name), name


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("sigmoid", "dpo"),
        ("hinge", "slic"),
        ("Apo-Zero", "apo_zero"),
        ("exo_pair", "exo"),
        ("sigmoid_norm", "ln_dpo"),
        ("nca_pair", "nca"),
    ],
)
def test_spellings(spelt, name):
    assert canonical(spelt) == name
    assert look_up(spelt) is LOSSES[name]


def test_a_wrong_name_is_answered_with_near_ones():
    with pytest.raises(InputError, match="no published loss is called 'simop'; did you mean simpo"):
        look_up("simop")


def of_pairs(logp, ref_logp, batch, *, beta=0.1):
    """A loss of one's own."""


def of_samples(logp, group, *, advantage, ref_logp=None, clip=0.2):
    """A loss of one's own."""


def of_rewards(reward, batch):
    """A loss of one's own."""


def test_a_loss_of_one_s_own_is_told_by_its_arguments():
    assert of_function(of_pairs).form == "reference"
    assert dict(of_function(of_pairs).defaults) == {"beta": 0.1}
    assert of_function(lambda logp, batch: None).form == "reference_free"
    assert of_function(of_samples).form == "group"
    assert dict(of_function(of_samples).defaults) == {"clip": 0.2}
    assert of_function(of_rewards).trains == "reward"
    with pytest.raises(InputError, match=r"takes \(x\); write it as \(logp, ref_logp, batch\)"):
        of_function(lambda x: None)
    with pytest.raises(InputError, match="gives beta no default"):
        of_function(lambda logp, batch, *, beta: None)
