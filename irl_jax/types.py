"""The nouns: batches of trajectories, losses, and the one error a user sees.

A language model is an MDP without a reward (MDP\\R): the state is the context,
the action is the next token, the transition is concatenation. A batch therefore
holds a `context` and the `action`s taken in it, for a language model and for a
control task alike, and a loss only ever reads `f32[..., T]` arrays over them.

Reference: Sun & van der Schaar 2025, "Inverse Reinforcement Learning Meets
Large Language Model Post-Training", arXiv 2507.13158, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any

# of observations and actions: n stands for 0, 1, ..., n - 1; a shape for numbers f32[*shape]
Space = int | tuple[int, ...]


class InputError(ValueError):
    """Something the user can fix: a file, a field, a flag, a shape.

    The message is one line that names the place and the fix. Command lines
    print it alone and exit with status 2.
    """


@flax.struct.dataclass
class Prompt:
    """The context of a language model's completions.

    Attributes:
        tokens: i32[B, P], left-padded, so that every prompt ends at column P - 1.
        mask: bool[B, P], true on tokens of the prompt.
    """

    tokens: Array
    mask: Array


@flax.struct.dataclass
class Trajectory:
    """Trajectories and the policy that took them.

    A row of a control task may hold several episodes, one after the other. An episode ends with
    an action whose discount is 0 if it terminated; one that was cut goes on with a column outside
    the mask, of discount 0, whose observation is the one at which it was cut. The next column
    begins an episode.

    Attributes:
        context: `Prompt` of B rows (language model), or f32[B, T, ...]
            observations (control), in which each action was taken.
        action: i32[B, T] tokens or discrete actions, or f32[B, T, A];
            right-padded.
        mask: bool[B, T], true on actions that were taken.
        logp: f32[B, T], log-probs of the actions under the behaviour policy
            (nats).
        reward: f32[B, T], reward of each action.
        terminated: bool[B], true if the (last) episode reached its end (EOS,
            terminal state), false if it was cut at T.
        final: f32[B, ...], the observation after column T (control); None for a
            language model.
        discount: f32[B, T], γ (1 − terminated) after each action (control); None
            where γ is one number and only the last action can end the episode.
    """

    context: Any
    action: Array
    mask: Array
    logp: Array
    reward: Array
    terminated: Array
    final: Any = None
    discount: Array | None = None


@flax.struct.dataclass
class TabularMDP:
    """A finite Markov decision process without a reward (MDP\\R).

    Attributes:
        prob: f[S, A, K], probability of each successor; 0 on padding. Without `successor`,
            f[S, A, S]: of every state.
        start: f[S], probability that an episode begins in a state.
        discount: f[S, A], γ after each action; 0 where it ends the episode.
        successor: i32[S, A, K], the states that may follow; None: all of them, in order.
    """

    prob: Array
    start: Array
    discount: Array
    successor: Array | None = None


@flax.struct.dataclass
class Demonstration:
    """Sequences to imitate; several may be packed into a row.

    Attributes:
        tokens: i32[B, T], prompts and completions.
        mask: bool[B, T], true on the tokens to be predicted (the completions).
        segment: i32[B, T], 1, 2, ... for the sequences packed into a row, 0 on
            padding. Attention and positions never cross a segment.
    """

    tokens: Array
    mask: Array
    segment: Array


@flax.struct.dataclass
class Preference:
    """Pairs of completions of one prompt, the preferred one first.

    Attributes:
        context: `Prompt` of B rows, shared by the two sides.
        action: i32[B, 2, T], right-padded; index 0 is chosen, 1 is rejected.
        mask: bool[B, 2, T].
        margin: f32[B], by how much chosen was rated above rejected (0 where
            unknown).
        weight: f32[B], weight of the pair; 0 on padding rows.
    """

    context: Any
    action: Array
    mask: Array
    margin: Array
    weight: Array

    @classmethod
    def without_tokens(cls, weight: Array) -> Preference:
        """Pairs without a margin, as far as losses of rewards read them.

        Args:
            weight: f32[B], weight of each pair.
        """
        absent: Any = None
        return cls(absent, absent, absent, margin=jnp.zeros_like(weight), weight=weight)


@flax.struct.dataclass
class Ranking:
    """Completions of one prompt in order of preference, the best first.

    Attributes:
        context: `Prompt` of B rows, shared by the K completions of a row.
        action: i32[B, K, T], right-padded.
        mask: bool[B, K, T].
        count: i32[B], how many completions of a row were ranked; the others are
            padding.
        weight: f32[B], weight of the ranking; 0 on padding rows.
    """

    context: Any
    action: Array
    mask: Array
    count: Array
    weight: Array


@flax.struct.dataclass
class Rating:
    """Completions that were judged one by one.

    Attributes:
        context: `Prompt` of B rows.
        action: i32[B, T], right-padded.
        mask: bool[B, T].
        score: f32[B], the judgement: a number, a category 0, 1, ..., or 1 for good
            and 0 for bad.
        weight: f32[B], weight of the judgement; 0 on padding rows.
    """

    context: Any
    action: Array
    mask: Array
    score: Array
    weight: Array


@flax.struct.dataclass
class StepLabels:
    """Completions whose steps were judged one by one.

    Attributes:
        context: `Prompt` of B rows.
        action: i32[B, T], right-padded.
        mask: bool[B, T].
        end: bool[B, T], true on the last token of each judged step; tokens in no such
            step (after a first error, say) are not judged.
        label: f32[B, T], the judgement in [0, 1], read where `end` is true: 1 for a good
            step, 0 for a bad one, or a probability between.
        weight: f32[B], weight of each step of a row; 0 on padding rows.
    """

    context: Any
    action: Array
    mask: Array
    end: Array
    label: Array
    weight: Array


@flax.struct.dataclass
class AnnotatorBatch:
    """Annotators, and the comparisons that each of them made.

    A row is an annotator, so that what is learned about one of them never crosses a
    batch.

    Attributes:
        mask: bool[B, T], true on the comparisons that an annotator made.
        weight: f32[B], weight of the annotator; 0 on padding rows.
    """

    mask: Array
    weight: Array


@flax.struct.dataclass
class Turns:
    """The turns of completions in which a policy and an environment write by turns.

    Attributes:
        number: i32[..., T], 1, 2, ..., N on the tokens of the policy's turns; 0 on what the
            environment wrote, and on padding. The mask of the completions is `number > 0`.
        reward: f32[..., N], reward of each turn, 0 for one that was not taken.
    """

    number: Array
    reward: Array

    @property
    def mask(self) -> Array:
        """bool[..., N], the turns that were taken: those that have a token."""
        turns = jnp.arange(1, self.reward.shape[-1] + 1)
        return (self.number[..., None] == turns).any(-2)


@flax.struct.dataclass
class Group:
    """K completions of each prompt, sampled and rewarded.

    A completion may hold several turns of the policy. What the environment answers between them
    stands in `action`, outside the mask: it is read, and is no action.

    Attributes:
        context: `Prompt` of B rows, shared by the K completions of a row.
        action: i32[B, K, T], right-padded.
        mask: bool[B, K, T].
        logp: f32[B, K, T], behaviour log-probs (nats).
        reward: f32[B, K], reward of a whole completion.
        terminated: bool[B, K], true if the completion ended with EOS; of several turns, if the
            environment ended the episode.
        turns: whose tokens are whose, and the reward of each turn; None where a completion is one
            turn.
    """

    context: Any
    action: Array
    mask: Array
    logp: Array
    reward: Array
    terminated: Array
    turns: Turns | None = None

    def flatten(self) -> Trajectory:
        """The same B * K completions as a `Trajectory`, the context repeated.

        The reward of a completion falls on its last token, the last at which its mask is
        true; that of a completion without a token is left out. Of several turns, the reward of
        each falls on its own last token.
        """
        b, k, _ = self.action.shape
        if self.turns is None:
            number, rewards = self.mask.astype(jnp.int32), self.reward[..., None]
        else:
            number, rewards = self.turns.number, self.turns.reward
        turns = jnp.arange(1, rewards.shape[-1] + 1)
        own = number[..., None] == turns  # [B, K, T, N]
        left = jnp.cumsum(own[..., ::-1, :], axis=-2)[..., ::-1, :]
        reward = jnp.where(own & (left == 1), rewards[..., None, :], 0.0).sum(-1)
        merge = lambda x: x.reshape(b * k, *x.shape[2:])
        return Trajectory(
            context=jax.tree.map(lambda x: jnp.repeat(x, k, axis=0), self.context),
            action=merge(self.action),
            mask=merge(self.mask),
            logp=merge(self.logp),
            reward=merge(reward),
            terminated=merge(self.terminated),
        )


class Rewarded(NamedTuple):
    """What a reward says of a group beside one number for each completion.

    Attributes:
        value: f32[B, K], the reward.
        parts: name -> f32[B, K]; the mean of each is logged as `reward_NAME`.
        metrics: name -> scalar, logged as it is.
    """

    value: Array
    parts: Mapping[str, Array] = {}
    metrics: Mapping[str, Any] = {}


@flax.struct.dataclass
class LoopContext:
    """Where a training loop is: what it tells every function that it calls.

    Valid until the function returns: the update that follows takes the memory of `params`.

    Attributes:
        done: number of updates done.
        progress: share of the updates done, in [0, 1]; 1 after the last one.
        params: those of the state.
        key: typed PRNG key of this function in this update, of no other.
        parts: of the reward of the group, once it has been asked, as for `prepare` and
            `observe`: name -> f32[B, K].
        metrics: of the reward, likewise: name -> scalar.
    """

    done: int
    progress: float
    params: PyTree
    key: Array
    parts: Mapping[str, Array] = flax.struct.field(default_factory=dict)
    metrics: Mapping[str, Any] = flax.struct.field(default_factory=dict)

    @property
    def update(self) -> int:
        """Number of the update in hand, from 1."""
        return self.done + 1


# what the online loop is given as its reward; see `irl_jax.rewards.contract`
Reward = Callable[[Group, LoopContext], Array | Rewarded]

Metrics = dict[str, tuple[Array, Array]]  # name -> (weighted sum, weight)


@flax.struct.dataclass
class Loss:
    """A loss before its mean is taken.

    Sums and weights add over micro-batches, devices and processes, so the mean
    of the whole batch is exact however the batch was split.

    Attributes:
        total: f32[], sum of weight * loss; what is differentiated.
        weight: f32[], sum of weights; does not depend on parameters.
        metrics: name -> (weighted sum f32[], weight f32[]).
    """

    total: Array
    weight: Array
    metrics: Metrics

    @property
    def mean(self) -> Array:
        """total / weight, f32[]; 0 where the weight is 0."""
        return safe_divide(self.total, self.weight)


def safe_divide(total: Array, weight: Array) -> Array:
    """total / weight, and 0 (with a zero gradient) where weight is 0."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)


# params, batch, key, *frozen parameters -> Loss
Objective = Callable[..., Loss]
# number done, name -> value
Advance = Callable[[int, Mapping[str, float]], None]
