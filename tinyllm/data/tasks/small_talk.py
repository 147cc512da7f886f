"""What is no task: greetings, thanks, questions about the assistant itself, and all that it does not know.

A model that has only ever seen tasks takes everything for one: greeted, it tells of floods. So it is shown what to say
then. That it does not know something has to be learned from many examples, for there is no end to what it does not
know: the topics are words of Python's own documentation and words that do not exist, the questions those that people put
to an assistant, and some lines are no questions at all. Near the tasks it is shown where they end: "Summarise: " followed by
anything but news is not known either.
"""

import functools
import re
from collections import Counter

import numpy as np

from tinyllm.data.tasks.contents import FIRST_NAMES, LAST_NAMES, TOWNS, WORDS, draw, pick
from tinyllm.data.tasks.exact import Fields, Phrasing, Task, phrased

ABOUT = "I work out sums, spell codes, sort digits, reverse words, find facts in a sentence and summarise small news."
HELLO = "Hello! " + ABOUT
WHO = "I am a small language model. " + ABOUT
THANKS = "You are welcome."
GOODBYE = "Goodbye!"
UNKNOWN = "I do not know. Ask me what I can do."


def lines(text: str) -> tuple[str, ...]:
    """The parts of a text between its bars, each on one line."""
    return tuple(" ".join(part.split()) for part in text.split("|"))


TALK = {  # what is said -> what the user says, in training and in the test
    HELLO: (
        lines("""
        Hello | Hello! | Hello. | Hi | Hi! | Hi there | Hey | Hey there! | Good morning | Good morning! | Good day. |
        Good evening! | Hello, how are you? | Hi, how are you? | How are you? | How are you doing? | Greetings! |
        Hello there. | Hello, assistant! | Hi, who is there? | Good afternoon. | Nice to meet you. | Hello again! | hey you |
        Hello computer | Is anybody there? | How do you do? | What's up? | Hello, model. | Hi bot
        """),
        lines("""
        Hello there! | Hi there! | Good afternoon! | Hey! | Good morning, how are you?
        """),
    ),
    WHO: (
        lines("""
        Who are you? | What are you? | What can you do? | Help | Help! | What do you know? | Who is this? |
        What is your name? | Tell me about yourself. | Hello, who are you? | Hello! What are you? | Hi, what can you do? |
        What can I ask you? | What can I ask? | How can you help me? | Introduce yourself. | Are you a person? |
        Are you a robot? | Are you human? | What are you good at? | Do you have a name? | Who made you? | Can you help me? |
        I need help. | What do you do? | Tell me what you can do. | What kind of model are you? | Are you a language model? |
        Say who you are. | Hi! Who are you? | What do you know about? | Tell me what you know. | Which tasks can you do? |
        Hey, what are you? | Tell me something about yourself. | Hello, tell me about yourself. |
        Good day, tell me what you are. | Hi, introduce yourself. |
        Please help me. | Show me what you can do. | What tasks do you know? | Who am I talking to?
        """),
        lines("""
        Hello! Who are you? | Hello, what can you do? | What's your name? | Please tell me what you can do. | Help me. |
        Who are you and what can you do? | Hi, tell me about yourself.
        """),
    ),
    THANKS: (
        lines("""
        Thanks | Thanks! | Thank you | Thank you! | Thank you very much. | Thanks a lot! | Many thanks. | Great, thanks! |
        Good, thank you. | That is right, thank you. | Thank you, that was good. | Well done! | Good. | Great! | Very good. |
        Good answer. | That is right. | Nice! | Perfect, thanks. | OK, thanks. | Okay | ok | cool | Thank you so much. |
        Thanks for your help. | That was right. | Correct! | Wow! | Excellent. | I see, thank you.
        """),
        lines("""
        Thank you a lot! | Great, thank you very much. | Thanks, that is right. | Very good, thanks! | OK, thank you.
        """),
    ),
    GOODBYE: (
        lines("""
        Goodbye | Goodbye! | Bye | Bye! | Bye bye | See you. | See you later! | Good night. | Good night! | I must go. |
        Goodbye, and thanks. | That is all. | Farewell. | See you soon. | quit | exit | Bye, see you! | The end. |
        Until tomorrow. | I am leaving.
        """),
        lines("""
        Bye, and thanks! | Goodbye, see you later. | Good night, bye!
        """),
    ),
}


def _talk(side: int) -> tuple[Phrasing, ...]:
    return tuple(phrasing for answer, said in TALK.items() for phrasing in phrased(*said[side], answer=answer))


# ---- what it does not know

_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvw"
_ADJECTIVES = "big small old new good bad long short fast slow hot cold rich poor dark bright strong red blue green".split()
_ENDINGS = ("?", ".", "!", "", "", "")


@functools.cache
def topics() -> tuple[str, ...]:
    """Words of the language reference that comes with Python, the frequent ones; a short list where it is missing."""
    from tinyllm.data.text.standard_library import read_standard_library

    try:
        documents = read_standard_library(("reference",))[0].documents
    except ValueError:
        return tuple(WORDS)
    counts = Counter(word for text in documents for word in re.findall(r"(?<![\w.])[a-z]{3,12}(?![\w.])", text.decode()))
    return tuple(sorted(word for word, count in counts.items() if count >= 3))


def _invented(rng: np.random.Generator) -> str:
    """A word that does not exist: two or three syllables."""
    syllables = (pick(_CONSONANTS, rng) + pick(_VOWELS, rng) + pick("nrlst ", rng).strip() for _ in range(rng.integers(2, 4)))
    return "".join(syllables)


def _word(rng: np.random.Generator) -> str:
    return _invented(rng) if rng.random() < 0.35 else pick(topics(), rng)


def unknown(rng: np.random.Generator, split: str) -> Fields:
    """Words to ask about; the first decides the side."""
    topic = draw(_word, split=split, rng=rng)
    name = pick((*FIRST_NAMES, *LAST_NAMES, *TOWNS), rng) if rng.random() < 0.5 else _invented(rng).capitalize()
    line = " ".join(_word(rng) for _ in range(rng.integers(1, 7)))
    return {
        "t": topic, "u": _word(rng), "v": pick(topics(), rng), "adj": pick(_ADJECTIVES, rng), "name": name,
        "line": f"{topic} {line}", "n": str(rng.integers(2, 3000)), "end": pick(_ENDINGS, rng),
    }  # fmt: skip


_ABOUT_TOPICS = lines("""
    What is {t}? | What is a {t}? | What is the {t} of {u}? | What is the {t} of {name}? | What are {t}? |
    What does {t} mean? | Who is {name} {t}? | Who is {name}? | Who was {name}? | Who invented the {t}? | Who wrote {t}? |
    Who is the {t} of {name}? | Where is {name}? | Where is the {t}? | Where can I find {t}? | Where do {t} come from? |
    When was {name} born? | When was the {t}? | When is {t}? | Why is the {t} {adj}? | Why do {t} {v}? |
    Why are {t} so {adj}? | How do I {v} a {t}? | How does {t} work? | How do you {v} {t}? | How can I {v} my {t}? |
    How many {t} are there? | How {adj} is {t}? | How old is {name}? | How many {t} has a {u}? | Tell me about {t}. |
    Tell me about {name}. | Tell me a {t}. | Tell me something about {t}. | Explain {t}. | Explain the {t} of {u}. |
    Describe the {t}. | Write a {t}. | Write a {t} about {u}. | Write me a {adj} {t}. | Make a {t}. | Give me a {t} for {u}. |
    Do you like {t}? | Do you know {t}? | Do you know {name}? | Can you {v} a {t}? | Can you {v}? | Can I {v} the {t}? |
    Is {t} {adj}? | Is {name} {adj}? | Is there a {t} in {name}? | Are {t} {adj}? | Should I {v} {t}? | I {v} {t} | I am {t}. |
    I want a {t}. | I like {t} | My {t} is {adj}. | The {t} is {adj}. | Let us {v} about {t}. | Please {v} the {t}. | {v} {t} |
    {t}{end} | {line}{end} | {t} {u}{end} | {name}{end} | Which {t} is the best? | Which {t} should I {v}? |
    What time is {t}? | What {t} is it? | What do you think of {t}? | What happened in {n}? | What happened to {name}? |
    In {n}, {t}? | {n}{end} | Translate {t} to {name}. | Say {t}. | Show me {t}. | Define {t}. | Compare {t} and {u}. |
    Who won the {t} in {n}? | Recommend a {t}. | Play {t}. | What should I {v}? | Which is better, {t} or {u}? |
    Did {name} {v} the {t}? | What did {name} {v}? | I think that {t} is {adj}. | You are {adj}. | You are a {adj} {t}. |
    That is {t}. | This is {adj}. | Why? | What? | Yes. | No. | And {t}? | Maybe {t}
""")
_NEAR_TASKS = lines("""
    Summarise {t}. | Summarise: {line}. | Summarise the {t}. | Who {v} the {t}? | Where was the {t}? | When was it? |
    Which {t} is the largest? | What is the largest {t}? | What is the smallest {t} in {name}? | What was the first {t}? |
    What is {t} times {u}? | What is {t} plus {n}? | How much is {t}? | How much is a {t}? | Count the {t}. |
    What is the number of {t}? | Spell. | Sort it. | Calculate {t}. | Which word means {t}? | Name a {t}. | Name the {t}. |
    What is the last {t}? | Work out the {t} of {u}. | Tell me the {t}. | Find the {t}. | Find {t} in {name}.
""")
_TEST = lines("""
    What is the {adj} {t}? | Who is the {t}? | Where are the {t}? | Why does {t} {v}? | How do {t} {v}? |
    Tell me a {adj} {t}. | Explain what {t} is. | Write a {adj} {u} about {t}. | Do you {v} {t}? | Can you tell me about {t}? |
    Is the {t} {adj}? | I {v} the {t} of {name}. | When did {name} {v}? | What is {name}? | Summarise the {t} of {u}. |
    The largest {t} of {name}? | {line}?
""")
TASKS = (
    Task("small talk", lambda rng, split: {}, _talk(0), _talk(1), weight=0.8),
    Task("unknown", unknown, phrased(*_ABOUT_TOPICS, *_NEAR_TASKS, answer=UNKNOWN), phrased(*_TEST, answer=UNKNOWN)),
)
