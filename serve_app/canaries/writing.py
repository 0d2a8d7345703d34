"""What canaries ask: ordinary wishes, put together by chance, so that no two are alike and none can be known beforehand. Pure.

Lengths, temperatures and limits vary as consumers' do. Answers are long enough to fill a window of the auditor's rules by themselves.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from cluster.jobs import JobKind

Texts = tuple[str, ...]
TOPICS: Texts = (
    "the sea", "an old clock", "bread baking", "a small garden", "the history of paper", "trains at night", "learning to swim", "the moon landing",
    "a lost umbrella", "bees", "mountain weather", "a bicycle repair shop", "the first day at school", "volcanoes", "saving money", "a violin",
    "the invention of the wheel", "winter clothes", "a lighthouse keeper", "solar panels", "cooking rice", "a broken promise", "public libraries",
    "migrating birds", "the taste of tea", "chess", "an honest mistake", "how locks work", "a village fair", "sleeping well", "deserts", "maps",
    "the price of salt", "working from home", "an apple tree", "radio waves", "a long journey", "good questions", "rivers", "a dog named Oskar",
)  # fmt: skip
WISHES: Texts = (
    "Write a short story about {0}.", "Explain {0} to a child of ten.", "Tell me everything that matters about {0}.", "Write a letter to a friend about {0}.",
    "What should a beginner know about {0}?", "Give me five ideas for a talk about {0}, each with two sentences.", "Describe {0} without naming it.",
    "Compare {0} with {1}.", "Write a dialogue between two strangers about {0}.", "Why do people care about {0}? Give several reasons.",
    "I have to write an essay on {0}. Write the introduction and an outline.", "Invent a legend that connects {0} and {1}.",
    "What are common mistakes when it comes to {0}?", "Write a newspaper article about {0}.", "Help me plan an afternoon around {0}.",
)  # fmt: skip
MANNERS: Texts = (
    "", "", "", "", " Be thorough.", " Use simple words.", " Write at least three paragraphs.", " Answer in detail.", " A little humor is welcome.",
    " No lists, please.", " Take your time.", " Mention {1} as well.",
)  # fmt: skip
ROLES: Texts = (
    "You are a helpful assistant.", "You are a patient teacher.", "You are an experienced editor who writes clear prose.", "Answer in plain English.",
    "You help the readers of a local newspaper.", "You write in full sentences.",
)  # fmt: skip
BEFORE: Texts = ("Thank you. Another question:", "That helps.", "I see. Now something else:", "Great!", "Good, and next:")
SUBJECTS: Texts = (
    "My neighbor",
    "The baker",
    "A tired student",
    "The old captain",
    "Our teacher",
    "Somebody",
    "The mayor",
    "A woman from the coast",
)
VERBS: Texts = (
    "talked about",
    "forgot",
    "wrote down",
    "laughed at",
    "asked about",
    "wanted to know more about",
    "drew a picture of",
    "remembered",
)
TIMES: Texts = (
    "on Monday",
    "before breakfast",
    "years ago",
    "late at night",
    "in spring",
    "while it rained",
    "after the concert",
    "last week",
)
LAST: Texts = (
    "Retell these notes as one story.",
    "Summarize the notes above in detail.",
    "Which of these notes belong together? Explain at length.",
)

GREEDY_TOKENS, SAMPLED_TOKENS = (48, 64, 96), (96, 128, 160)
TEMPERATURES = (0.0, 0.0, 0.0, 0.2, 0.5, 0.7, 0.8, 0.8, 1.0)
HAS_ROLE, HAS_PAST, HAS_TOP_P = 0.4, 0.2, 0.3  # of a canary


@dataclass(frozen=True, slots=True)
class Written:
    """What a canary asks, in Ollama's form."""

    kind: JobKind
    request: dict[str, Any]
    max_tokens: int


def write(chance: Random, *, context_tokens: int, thinks: bool = False) -> Written:
    """Write a canary for a model with such a context; `thinks`: it can, and is asked not to, for thoughts are not scored."""
    options, max_tokens = _sampling(chance, context_tokens)
    messages = [{"role": "system", "content": chance.choice(ROLES)}] if chance.random() < HAS_ROLE else []
    if chance.random() < HAS_PAST:
        messages += [_user(_wish(chance)), {"role": "assistant", "content": _notes(chance, chance.randrange(80, 400))}]
        messages.append(_user(f"{chance.choice(BEFORE)} {_wish(chance)}"))
    else:
        messages.append(_user(_wish(chance)))
    return _chat(messages, options, max_tokens, thinks=thinks)


def write_long(chance: Random, size: int, *, context_tokens: int, thinks: bool = False) -> Written:
    """Write one whose prompt has about so many bytes."""
    options, max_tokens = _sampling(chance, context_tokens)
    return _chat([_user(f"{_notes(chance, size)}\n\n{chance.choice(LAST)}")], options, max_tokens, thinks=thinks)


def write_embedding(chance: Random, size: int) -> Written:
    """Write one for a model that embeds texts."""
    return Written(JobKind.EMBED, {"input": _notes(chance, size)}, 1)


def _chat(messages: list[dict[str, str]], options: dict[str, float], max_tokens: int, *, thinks: bool) -> Written:
    request: dict[str, Any] = {"messages": messages, "options": options}
    return Written(JobKind.CHAT, request | {"think": False} if thinks else request, max_tokens)


def _sampling(chance: Random, context_tokens: int) -> tuple[dict[str, float], int]:
    temperature = chance.choice(TEMPERATURES)
    options = {"temperature": temperature}
    if temperature and chance.random() < HAS_TOP_P:
        options["top_p"] = chance.choice((0.9, 0.95))
    tokens = chance.choice(SAMPLED_TOKENS if temperature else GREEDY_TOKENS) + chance.randrange(16)
    return options, max(1, min(tokens, context_tokens // 2))


def _wish(chance: Random) -> str:
    topics = chance.sample(TOPICS, 2)
    return (chance.choice(WISHES) + chance.choice(MANNERS)).format(*topics)


def _notes(chance: Random, size: int) -> str:
    """Write sentences until there are so many bytes of them."""
    said: list[str] = []
    length = 0
    while length < size:
        said.append(f"{chance.choice(SUBJECTS)} {chance.choice(VERBS)} {chance.choice(TOPICS)} {chance.choice(TIMES)}.")
        length += len(said[-1]) + 1
    return " ".join(said)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
