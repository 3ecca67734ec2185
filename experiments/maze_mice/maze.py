"""The labyrinth as a tabular process, and the sessions as visits to its states."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from irl_jax.files import read_arrays
from irl_jax.types import InputError, TabularMDP

DEPTH = 6
NODES = 2 ** (DEPTH + 1) - 1  # junctions and dead ends
OUTSIDE = NODES
LEAVES = range(NODES // 2, NODES)
MANNERS = ("on", "back to the parent", "back into the child", "across to the other child")


@dataclass(frozen=True, eq=False)
class Maze:
    """The labyrinth, to a mouse that knows where it is or also where it came from.

    Actions are to the parent, to the left and to the right child.

    Attributes:
        mdp: deterministic; leaving the maze ends the episode.
        allowed: bool[S, A], whether there is such a way.
        enters: i64[S, A], the node that an action leads to.
        places: what a reward can be of -> i64[S, A], which of them an action leads to, and how many
            there are. `node`: the node; with memory also `manner`, how that node relates to the
            one before (`MANNERS`), and `turn`, the three nodes on the way to it.
        state: (node before, node) -> state; the node before is ignored without memory.
    """

    mdp: TabularMDP
    allowed: np.ndarray
    enters: np.ndarray
    places: dict[str, tuple[np.ndarray, int]]
    state: dict[tuple[int, int], int]


def neighbours(node: int) -> list[int | None]:
    """What the three actions lead to: parent, left, right; None where there is no way.

    Example:
        >>> neighbours(0), neighbours(5), neighbours(116)
        ([127, 1, 2], [2, 11, 12], [57, None, None])
    """
    parent = OUTSIDE if node == 0 else (node - 1) // 2
    children = (None, None) if node in LEAVES else (2 * node + 1, 2 * node + 2)
    return [parent, *children]


def layout() -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Where the nodes are on a map, f64[127, 2], right and up, and the ways between them.

    Ways turn by a right angle and halve every second time. Which of two children is to the left
    is not known, so that the map may be a mirror image at any junction.
    """
    at = np.zeros((NODES, 2))
    ways = [((node - 1) // 2, node) for node in range(1, NODES)]
    for parent, node in ways:
        depth = (node + 1).bit_length() - 1
        axis = (depth - 1) % 2
        at[node] = at[parent]
        at[node, axis] += 2 ** ((DEPTH - depth) // 2) * (1 if node % 2 == 0 else -1)
    return at, ways


def how(before: int, node: int, to: int) -> int:
    """The number in `MANNERS` of a step from a node, by the node before it.

    Example:
        >>> [MANNERS[how(2, 5, to)] for to in neighbours(5)]
        ['back to the parent', 'on', 'on']
        >>> [MANNERS[how(11, 5, to)] for to in neighbours(5)]
        ['on', 'back into the child', 'across to the other child']
    """
    parent = neighbours(node)[0]
    if node in LEAVES:
        return 0  # there is one way only
    if before == parent:
        return int(to == parent)
    return 0 if to == parent else 2 if to == before else 3


def make_maze(*, memory: bool, discount: float) -> Maze:
    """The labyrinth; with memory its states are the steps from a node to the next.

    Args:
        memory: whether the mouse knows where it came from.
        discount: γ.
    """
    steps = [(0, OUTSIDE)] + [
        (node, to) for node in range(NODES) for to in neighbours(node) if to is not None
    ]
    steps = [(to, node) for node, to in dict.fromkeys(steps)]  # from a node's neighbour to it
    number: dict[tuple[int, int], int] = {}
    for before, node in steps:
        number[before, node] = len(number) if memory else node
    known = sorted({(state, before, node) for (before, node), state in number.items()})
    states = len({state for state, _, _ in known})
    enters = np.full((states, 3), OUTSIDE)
    allowed, manner = np.zeros((states, 3), bool), np.zeros((states, 3), int)
    successor = np.zeros((states, 3, 1), np.int32)
    for state, before, node in known:
        for action, to in enumerate(neighbours(node)):
            if to is not None:
                allowed[state, action], enters[state, action] = True, to
                manner[state, action] = how(before, node, to)
                successor[state, action, 0] = 0 if to == OUTSIDE else number[node, to]
    start = np.arange(states) == number[OUTSIDE, 0]
    mdp = TabularMDP(
        prob=jnp.ones((states, 3, 1)),
        start=jnp.asarray(start, jnp.float32),
        discount=jnp.asarray(np.where(enters == OUTSIDE, 0.0, discount), jnp.float32),
        successor=jnp.asarray(successor),
    )
    places = {"node": (enters, NODES + 1)}
    if memory:
        turn = np.arange(allowed.size).reshape(allowed.shape)
        places |= {"manner": (manner, len(MANNERS)), "turn": (turn, turn.size)}
    return Maze(mdp, allowed, enters, places, number)


def read_session(path: Path, name: str) -> list[list[int]]:
    """The nodes of each bout, from outside to outside or to where the session ended.

    Raises:
        InputError: the file cannot be read, has no such session, or a step is not between
            neighbours.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    arrays = read_arrays(path, fix="give an .npz of sessions")
    try:
        node, bout = arrays[f"{name}_node"], arrays[f"{name}_bout"]
    except KeyError:
        raise InputError(
            f"{path}: has no {name}_node and {name}_bout; name another session"
        ) from None
    if node.ndim != 1 or node.shape != bout.shape or not len(node):
        raise InputError(f"{path}: {name}_node and {name}_bout need one entry a visit")
    bouts = [[OUTSIDE, *node[bout == number].tolist()] for number in dict.fromkeys(bout.tolist())]
    for number, nodes in enumerate(bouts):
        for before, after in pairwise(nodes):
            ways = [0] if before == OUTSIDE else neighbours(before) if before < NODES else []
            if after not in ways:
                raise InputError(
                    f"{path}: {name}, bout {number}: a step from {before} to {after}, which are no "
                    "neighbours"
                )
    return bouts


def visits(maze: Maze, bouts: list[list[int]]) -> np.ndarray:
    """How often each bout took each action in each state, f32[B, S, A]."""
    found = np.zeros((len(bouts), *maze.allowed.shape), np.float32)
    for bout, nodes in zip(found, bouts, strict=True):
        for before, node, after in zip(nodes[:-2], nodes[1:-1], nodes[2:], strict=True):
            bout[maze.state[before, node], neighbours(node).index(after)] += 1
    return found
