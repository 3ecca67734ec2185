"""Rollouts of several turns: transcripts are those of the environments, log-probs the model's."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.data.jsonl import DemonstrationRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.envs.text import Against, GuessingGame, KuhnPoker
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.logprob import completion_logp
from irl_jax.models.mesh import make_mesh
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import LanguageModel, Session
from irl_jax.rollout.turns import Words, chat_words, roll_turns
from irl_jax.types import Group, InputError
from tests.models.cases import joined, random_params
from tests.oracles import decoder as oracle

END = 0
KNOWN = (
    "<end> guess from 1 to 7 2 3 4 5 6 higher lower unknown you begin the other passed bet and "
    "have jack queen king pass fold"
)
LEXICON = KNOWN.split()
SPLIT = lambda text: [LEXICON.index(word) for word in text.split()]
JOIN = lambda ids: " ".join(LEXICON[i] for i in ids)
WORDS = Words(SPLIT, SPLIT, JOIN, (END,))
ENDS = (END, 3, 12)  # for a model without training, that it ends turns
ENDED = replace(WORDS, end_ids=ENDS)
SIZES = {"prompt_width": 9, "length": 24, "max_new_tokens": 3, "turns": 5}
CONFIG = DecoderConfig(
    vocab_size=len(LEXICON), d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8,
    max_positions=33,
)  # fmt: skip
guessing = partial(GuessingGame, 7, cost=0.125)


def scripted(answer, tokens=3, logp=-0.5):
    """A model that answers what it has read, a text, by a text, and seldom by too many tokens."""

    def sample(prompts, key, numbers):
        rows = [JOIN(t[m]) for t, m in zip(prompts.tokens, prompts.mask, strict=True)]
        shape = (len(rows), 1, tokens)
        action, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for row, read in enumerate(rows):
            ids = [*SPLIT(answer(read)), END][:tokens]
            action[row, 0, : len(ids)], mask[row, 0, : len(ids)] = ids, True
        reward, over = np.zeros(shape[:2]), np.zeros(shape[:2], bool)
        return Group(prompts, action, mask, np.where(mask, logp - action, 0.0), reward, over)

    return sample


def halving(read):
    """The middle of what is still possible, of the text of an episode."""
    low, high, last = 1, 7, 0
    for word in read.replace("guess from 1 to 7", "").split():
        if word.isdigit():
            last = int(word)
        low = last + 1 if word == "higher" else low
        high = last - 1 if word == "lower" else high
    return str((low + high) // 2)


def pieces(group, row, k=0):
    """[(whether the policy wrote it, text)] of a row, without its padding."""
    found, number = [], np.asarray(group.turns.number[row, k])
    used = np.flatnonzero(number)[-1] + 1 if number.any() else 0
    for own, token in zip(number[:used], np.asarray(group.action[row, k]), strict=False):
        if not found or found[-1][0] != own:
            found.append((own, []))
        found[-1][1].append(token)
    return [(int(own), JOIN(ids)) for own, ids in found]


def by_hand(env, seed, answer, turns):
    """The same episode as a loop over the environment: pieces, rewards, whether it is over."""
    told = read = env.reset(seed)
    found, rewards, done = [], [], False
    while not done and len(rewards) < turns:
        if found:
            found.append((0, told))
        text = answer(read)
        told, reward, done = env.step(text)
        rewards.append(reward)
        found.append((len(rewards), f"{text} <end>"))
        read = f"{read} {text} <end> {told}"
    return found, rewards, done


def roll(sample, make=guessing, seeds=range(7), words=WORDS, seed=0, **changes):
    return roll_turns(sample, make, seeds, words, jax.random.key(seed), **SIZES | changes)


def test_a_transcript_is_that_of_the_loop_by_hand():
    group = roll(scripted(halving), turns=3)
    assert group.action.shape == (7, 1, 24) and group.turns.reward.shape == (7, 1, 3)
    lengths = set()
    for seed in range(7):
        found, rewards, done = by_hand(guessing(), seed, halving, 3)
        assert pieces(group, seed) == found and done
        taken = np.asarray(group.turns.mask[seed, 0])
        assert taken.tolist() == [True] * len(rewards) + [False] * (3 - len(rewards))
        assert group.turns.reward[seed, 0].tolist() == rewards + [0.0] * (3 - len(rewards))
        assert group.reward[seed, 0] == sum(rewards)
        lengths.add(len(rewards))
    assert lengths == {1, 2, 3} and np.all(group.terminated)
    np.testing.assert_array_equal(group.mask, group.turns.number > 0)
    logp = np.where(group.mask, -0.5 - np.asarray(group.action), 0.0)
    np.testing.assert_array_equal(group.logp, logp)
    for read, inside in zip(group.context.tokens, group.context.mask, strict=True):
        assert JOIN(np.asarray(read)[np.asarray(inside)]) == "guess from 1 to 7"


def test_completions_of_a_seed_share_a_prompt():
    group = roll(scripted(halving), seeds=[4, 2], completions=3)
    assert group.action.shape == (2, 3, 24) and group.context.tokens.shape == (2, 9)
    for row, seed in enumerate([4, 2]):
        for k in range(3):
            assert pieces(group, row, k) == by_hand(guessing(), seed, halving, 5)[0]


def test_too_many_turns_and_a_full_context_are_cut():
    """Of a model that never finds it: N turns, or as many as there is room for, and no more."""
    stubborn = scripted(lambda read: "1")
    for turns, length, taken in ((4, 24, 4), (9, 13, 4), (9, 14, 4), (9, 15, 5), (1, 3, 1)):
        group = roll(stubborn, seeds=[0, 3], turns=turns, length=length)
        assert group.terminated.tolist() == [[True], [False]]
        found, rewards, _ = by_hand(guessing(), 3, lambda read: "1", taken)
        assert pieces(group, 1) == found and int(group.turns.number.max()) == taken
        assert group.turns.reward[1, 0, :taken].tolist() == rewards
        assert group.action.shape[-1] == length


def test_a_turn_without_an_end_is_heard_and_ended_by_another():
    """The end that it lacks stands outside the mask, before the answer."""
    long = lambda read: "3 4 5 6" if "unknown" not in read else "4"
    group = roll(scripted(long), seeds=[3])
    assert pieces(group, 0) == [(1, "3 4 5"), (0, "<end> unknown"), (2, "4 <end>")]
    assert group.turns.reward[0, 0, :3].tolist() == [-0.125, 0.875, 0.0]
    alone = roll(scripted(lambda read: "4", tokens=1), seeds=[3], max_new_tokens=1)
    assert pieces(alone, 0) == [(1, "4")] and alone.reward[0, 0] == 0.875
    cut = roll(scripted(long), seeds=[3], turns=1)
    assert pieces(cut, 0) == [(1, "3 4 5")] and not cut.terminated[0, 0]


def test_two_players_hear_their_own_cards_alone():
    """The first passes but with a king, and calls; the second bets with a king or a queen."""

    def answer(read):
        if "begin" in read and "other" not in read:
            return "bet" if "king" in read else "pass"
        return "bet" if "jack" not in read else "pass"

    group = roll(scripted(answer), KuhnPoker, range(6), players=2, turns=2)
    assert group.action.shape == (12, 1, 24) and group.turns.reward.shape == (12, 1, 2)
    begin = lambda row: JOIN(np.asarray(group.context.tokens[row])[np.asarray(
        group.context.mask[row])])  # fmt: skip
    again = "you have the {} and you passed and the other bet"
    # jack and queen: pass, bet, pass; queen and king: pass, bet, bet; king and jack: bet, pass
    expected = {
        0: ([(1, "pass <end>"), (0, again.format("jack")), (2, "pass <end>")], [0, -1],
            "queen and the other passed", [(1, "bet <end>")], [1, 0]),
        3: ([(1, "pass <end>"), (0, again.format("queen")), (2, "bet <end>")], [0, -2],
            "king and the other passed", [(1, "bet <end>")], [2, 0]),
        4: ([(1, "bet <end>")], [1, 0], "jack and the other bet", [(1, "pass <end>")], [-1, 0]),
    }  # fmt: skip
    for seed, (one, won, told, other, lost) in expected.items():
        assert begin(2 * seed).endswith("and you begin")
        assert pieces(group, 2 * seed) == one and begin(2 * seed + 1).endswith(told)
        assert pieces(group, 2 * seed + 1) == other
        assert group.turns.reward[2 * seed, 0].tolist() == won
        assert group.turns.reward[2 * seed + 1, 0].tolist() == lost
    assert np.all(group.terminated)
    np.testing.assert_array_equal(group.reward[::2], -group.reward[1::2])


def test_a_player_that_was_told_nothing_has_no_token():
    group = roll(scripted(lambda read: "fold"), KuhnPoker, [0], players=2)
    assert group.reward[:, 0].tolist() == [-2.0, 0.0] and not group.mask[1].any()
    assert group.context.mask.sum(-1).tolist() == [7, 1] and np.all(group.terminated)
    against = partial(Against, KuhnPoker(), lambda told, rng: "bet", seat=1)
    alone = roll(scripted(lambda read: "pass"), against, [0])
    assert pieces(alone, 0) == [(1, "pass <end>")] and alone.reward[0, 0] == -1.0


class Counting:
    """An environment that is over after 1 + s mod 4 turns, whatever they say."""

    player = 0

    def reset(self, seed):
        self.left = 1 + seed % 4
        return "you begin"

    def step(self, text):
        self.left -= 1
        return "the other passed", 1.0, self.left == 0


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


def sampled(params):
    """The decoder as `roll_turns` samples it."""

    def sample(prompts, key, numbers):
        return generate(
            CONFIG, params, prompts, key, completions=1, max_new_tokens=3, sampling=Sampling(),
            eos_ids=ENDS, numbers=numbers,
        )  # fmt: skip

    return sample


@pytest.fixture(scope="module")
def model(params):
    return sampled(params)


def test_log_probs_of_a_row_are_those_of_its_turns_apart(params, model):
    """As sampled, turn by turn; as the row is scored at once; and by the oracle, in float64."""
    group = roll(model, Counting, range(4), completions=4, words=ENDED)
    assert group.turns.mask.sum(-1).tolist() == [[n] * 4 for n in (1, 2, 3, 4)]
    assert len(set(np.asarray(group.mask).sum(-1).ravel())) > 4  # turns of several lengths
    logp = jax.jit(completion_logp, static_argnums=0)(CONFIG, params, group.context, group.action)
    mask = np.asarray(group.mask)
    np.testing.assert_allclose(group.logp[mask], logp[mask], atol=1e-4)
    number = np.asarray(group.turns.number)
    whole = np.arange(24) <= (np.arange(24) * mask).max(-1, keepdims=True)
    for b, k, start, rest in joined(group.context, group.action, whole):
        score = lambda ids: oracle.logits(CONFIG, params, np.array(ids))
        for n in range(1, number[b, k].max() + 1):
            (at,) = np.nonzero(number[b, k] == n)
            table = score([*start, *rest[: at[-1] + 1]])[len(start) + at[0] - 1 : -1]
            table -= np.log(np.exp(table).sum(-1, keepdims=True))
            np.testing.assert_allclose(
                group.logp[b, k, at], table[np.arange(len(at)), rest[at]], atol=1e-4
            )


def test_the_key_decides_and_rows_do_not_see_each_other(model):
    rolled = partial(roll, model, words=ENDED)
    one, again, other = (rolled(seeds=[1, 2, 3, 4], seed=s) for s in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (np.asarray(one.action) != np.asarray(other.action)).any()
    firsts = [tuple(row) for row in np.asarray(one.action[:, 0, :3]).tolist()]
    assert len(set(firsts)) > 1  # all were told the same
    elsewhere = rolled(seeds=[1, 2, 5, 6])
    np.testing.assert_array_equal(one.action[:2], elsewhere.action[:2])


def test_turns_draw_with_keys_of_their_own(params):
    """With uniform logits, turns do not repeat the ones before, but for one of one token."""
    flat = sampled(jax.tree.map(jnp.zeros_like, params))
    group = roll(flat, Counting, [1, 5, 9, 13], words=ENDED)
    action, number = np.asarray(group.action), np.asarray(group.turns.number)
    turn = lambda row, n: action[row][number[row] == n].tolist()
    assert sum(turn(row, 1) == turn(row, 2) for row in range(4)) < 2


TALK = ["guess from 1 to 7", "higher", "lower", "you have the king", "1", "4"]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    tokenizer = Tokenizer.train_sentencepiece(TALK * 9, 300, tmp_path_factory.mktemp("tokenizer"))
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1,
        head_dim=4, d_ff=8, max_positions=96,
    )  # fmt: skip
    return LanguageModel(config, init_params(config, jax.random.key(0)), tokenizer)


def test_a_chat_is_the_template_of_the_whole_talk(language):
    """Turns and answers, joined, are the ids of the conversation, and its mask."""
    words = chat_words(language)
    said = lambda text: language.tokenizer.encode(text)
    turns = [[*said("4"), words.end_ids[0]], [*said("1"), words.end_ids[0]]]
    talk = [("assistant", "4"), ("user", "lower</s>"), ("assistant", "1")]
    messages = [{"role": role, "content": content} for role, content in talk]
    encoder = language.encoder(max_prompt=90, max_completion=90)
    (row,) = encoder.demonstrations(
        [DemonstrationRecord("guess from 1 to 7", [*messages[:1], {"role": "user", "content":
                             "lower"}, messages[2]], "here")])  # fmt: skip
    assert list(words.first("guess from 1 to 7")) == row.prompt
    told = list(words.later("lower"))
    assert [*turns[0], *told, *turns[1]] == row.completion
    own = [True] * len(turns[0]) + [False] * len(told) + [True] * len(turns[1])
    assert row.masks == [own]
    assert words.decode(turns[0][:-1]) == "4"
    quoted = list(words.later("lower</s>"))
    assert quoted.count(words.end_ids[0]) == told.count(words.end_ids[0])
    assert len(quoted) > len(told)


def test_a_session_writes_in_environments(language):
    session = Session.create(
        language, make_mesh(1), prompt_width=48, max_new_tokens=4, sampling=Sampling()
    )
    params = session.model.params

    def sample(prompts, key, numbers):
        return session.sample(params, prompts, key, 1, numbers=numbers)

    group = roll(
        sample, seeds=[0, 1], words=chat_words(language), completions=2, prompt_width=48,
        length=40, max_new_tokens=4,
    )  # fmt: skip
    assert group.action.shape == (2, 2, 40) and int(group.turns.number.max()) > 1
    mask = np.asarray(group.mask)
    np.testing.assert_allclose(
        group.logp[mask], np.asarray(session.logp(params, group))[mask], atol=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": 0}, "turns"),
        ({"length": 2}, "length"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"completions": 0}, "completions"),
        ({"players": 3}, "players"),
        ({"players": 2, "completions": 2}, "completions: got 2; two players"),
        ({"seeds": []}, "seeds: there are none"),
        ({"prompt_width": 4}, "prompt_width: what is told first has 5 tokens, expected 1 to 4"),
        ({"make": KuhnPoker, "prompt_width": 20}, "players: player 1 of an environment"),
        ({"max_new_tokens": 2}, r"max_new_tokens: turns of `sample`: expected shape \[7, 1, 2\]"),
    ],
    ids=str,
)
def test_bad_input(changes, message):
    with pytest.raises(InputError, match=message):
        roll(scripted(lambda read: "pass" if "you" in read else halving(read)), **changes)


def test_episodes_of_a_seed_begin_alike():
    games = iter([guessing(), GuessingGame(6, cost=0.0)])
    with pytest.raises(InputError, match="make: episodes of one seed are told different things"):
        roll(scripted(halving), lambda: next(games), seeds=[0], completions=2)
