"""A text is walked through in the tokens that it was most likely written in, not in those that it is usually cut into."""

import math

from cluster.audit.cutting import Piece, walk
from cluster.audit.free_text import Told

WORDS = [b" set", b" of", b" o", b"f", b"ff", b" rules", b".", b"\xf0\x9f", b"\x98\x80", b" off"]
SET, OF, BARE, F, FF, RULES, DOT, HALF, OTHER_HALF, OFF = range(len(WORDS))


class Model:
    """Says what follows which token; it was asked so often. Usual is the longest token."""

    def __init__(self, **follows):
        self.follows, self.asked = {WORDS.index(word.encode()): likely for word, likely in follows.items()}, []

    async def tell(self, said):
        self.asked.append(list(said))
        likely = sorted(self.follows.get(said[-1], {}).items(), key=lambda one: -one[1])
        return [Told(token, math.log(probability), WORDS[token]) for token, probability in likely]

    async def cut(self, text):
        pieces, rest = [], text.encode()
        while rest:
            token = max((n for n, word in enumerate(WORDS) if rest.startswith(word)), key=lambda n: len(WORDS[n]))
            pieces.append(Piece(token, WORDS[token]))
            rest = rest[len(WORDS[token]) :]
        return pieces


async def walked(model, text, wanted=range(100)):
    steps = await walk(model.tell, model.cut, [SET], await model.cut(text), wanted)
    return [token for token, _ in steps]


async def test_a_token_that_penalties_forbid_was_written_in_two():
    model = Model(**{" set": {BARE: 0.6, OF: 0.02}, " o": {F: 0.9}, "f": {RULES: 0.9}, " rules": {DOT: 0.9}})
    assert await walked(model, " of rules.") == [BARE, F, RULES, DOT]
    assert [SET, BARE, F, RULES] in model.asked  # what comes after is asked for behind what was said, not behind what it looks like


async def test_a_likelier_beginning_is_not_taken_when_the_text_then_cannot_go_on():
    model = Model(**{" set": {BARE: 0.6, OF: 0.1}, " o": {FF: 0.9, F: 0.01}, " of": {RULES: 0.9}})
    assert await walked(model, " of rules") == [OF, RULES]
    silent = Model(**{" set": {BARE: 0.6, OF: 0.1}})
    assert await walked(silent, " of rules", {0}) == [OF]


async def test_a_text_is_cut_as_usual_where_that_is_likeliest_and_then_costs_nothing_more():
    model = Model(**{" set": {OF: 0.9, BARE: 0.05}, " of": {RULES: 0.9}})
    assert await walked(model, " of rules") == [OF, RULES]
    assert len(model.asked) == 2


async def test_what_the_reference_would_never_say_stays_what_it_is_usually_cut_into():
    model = Model(**{" set": {BARE: 0.6, FF: 0.4}, " o": {FF: 0.9}, " of": {DOT: 1.0}, " rules": {DOT: 1.0}})
    assert await walked(model, " of rules.") == [OF, RULES, DOT]


async def test_a_text_may_end_in_the_middle_of_a_word():
    assert await walked(Model(**{" set": {BARE: 0.6, OFF: 0.1}}), " o") == [BARE]
    assert await walked(Model(**{" set": {BARE: 0.6, OF: 0.1}, " o": {F: 0.9}}), " of") == [BARE, F]
    assert await walk(Model().tell, Model().cut, [SET], [], {0}) == []


async def test_steps_are_told_at_the_bytes_that_are_wanted_where_a_token_begins_there():
    model = Model(**{" set": {BARE: 0.6, OF: 0.02}, " o": {F: 0.9}, "f": {RULES: 0.9}, " rules": {DOT: 0.9}})
    assert await walked(model, " of rules.", {0, 3, 5}) == [BARE, RULES]


async def test_characters_are_not_broken_that_are_usually_whole():
    model = Model(**{" set": {HALF: 0.9}, "f": {DOT: 1.0}})
    model.follows[HALF] = {OTHER_HALF: 0.9}
    model.follows[OTHER_HALF] = {DOT: 0.9}
    assert await walked(model, "😀.") == [HALF, OTHER_HALF, DOT]
