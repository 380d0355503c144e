"""Made sentences with known mistakes, to see an audit of texts at work without any data.

Requests to a shop of six kinds, put together by a small grammar from a seed: nobody wrote them, and
they come under labelfix's own license. What is done to them is what `labelfix.benchmark.demo` does
to digits.
"""

import csv
import re
from pathlib import Path

import numpy as np

from labelfix.benchmark.demo import DemoData, DemoSample, demo_folder, plant, write_truth

TABLE_NAME = "requests.csv"
OF_EACH = 100
"""Different texts of each kind."""

LOOK_ALIKE = {
    "billing": "refund",
    "cancel": "refund",
    "delivery": "cancel",
    "login": "technical",
    "refund": "billing",
    "technical": "login",
}
"""The kind that a hasty reader takes a request for."""

KINDS = tuple(LOOK_ALIKE)

TEMPLATES = {
    "billing": (
        "{item_i} was charged twice on my {card}",
        "The invoice for {item} shows {sum} instead of {sum}",
        "Why is there a fee of {sum} on my {card} statement?",
        "Please send me the invoice for {item} with our tax number on it",
        "My {card} was debited {sum}, but the invoice says {sum}",
        "There is a charge of {sum} from you {when} that I do not recognize",
        "The voucher was not taken off the price of {item} on the bill",
        "Can I pay the bill for {item} in monthly rates, or by {card}?",
    ),
    "cancel": (
        "Please cancel my order of {item} before it is sent",
        "I ordered {item} by mistake {when}, can you stop the order?",
        "I want to end my subscription from next month on",
        "How do I cancel the membership that I took {when}?",
        "I no longer need {item}, please take it out of my order",
        "Stop the order of {item}, I found it elsewhere for {sum}",
        "We wish to terminate the contract for {item} at the end of the year",
        "The button to cancel the order I made {when} is grey, please cancel it for me",
    ),
    "delivery": (
        "Where is my parcel with {item}? It was to come {when}",
        "The courier left {item} with a neighbor I do not know",
        "The tracking of {item} has not changed since {when}",
        "My parcel was sent to my old address, can you redirect it?",
        "{item_i} came in a torn box and one part was missing",
        "When will {item} be delivered? I ordered it {when}",
        "The driver says that nobody was home {when}, but I was",
        "Can {item} be shipped to a pickup station instead of my house?",
    ),
    "login": (
        "I forgot my password and the mail to reset it never comes",
        "My account is locked after three attempts {when}",
        "The code to sign in arrives on a phone number that I no longer have",
        "I cannot log in since {when}, it says that my password is wrong",
        "Please change the mail address of my account, I lost access to the old one",
        "Somebody else signed in to my account {when}, how do I secure it?",
        "The two-step verification keeps rejecting my code",
        "How can I delete my account and open a new one with another user name?",
    ),
    "refund": (
        "I sent {item} back {when} and still wait for my money",
        "When do I get the {sum} for {item} that I returned?",
        "Only {sum} of the {sum} were refunded to my {card}",
        "{item_i} does not fit, I want to return it and get my money back",
        "How do I print the return label for {item}?",
        "You accepted the return of {item} {when}, but paid nothing back",
        "May I return {item} without its box, and is the refund in full?",
        "Please refund {item} to my {card} and not as a voucher",
    ),
    "technical": (
        "The app crashes as soon as I open the page of {item}",
        "{item_i} does not switch on since the update {when}",
        "The website shows an error when I put {item} into the basket",
        "The screen of {item} flickers and then stays black",
        "How do I connect {item} to the wireless network at home?",
        "The firmware of {item} stops at 40 percent of the update",
        "The app is very slow on my phone since {when} and drains the battery",
        "{item_i} beeps all the time and shows the error code {code}",
    ),
}

_ITEMS = (
    "the headphones", "the lamp", "the coffee machine", "the printer", "the tablet", "the backpack",
    "the running shoes", "the camera", "the keyboard", "the vacuum cleaner", "the smart watch",
    "the speaker", "the kettle", "the desk", "the router", "the drill",
)  # fmt: skip
_WHEN = (
    "yesterday", "last week", "on Monday", "two days ago", "on Friday", "this morning",
    "ten days ago", "at the weekend", "last month",
)  # fmt: skip
_CARDS = ("credit card", "bank account", "debit card")
_BEFORE = ("", "", "Hello, ", "Hi there, ", "Good morning. ", "Dear team, ", "A question: ")
_AFTER = (
    "", "", " Thank you.", " Please help.", " Best regards", " I am a customer since 2015.",
    " This is urgent.", " I wrote to you {when}, too.", " My order number is {code}.",
)  # fmt: skip

OUTLIER = (
    "Boil the potatoes in salted water, mash them with butter and warm milk, and season them with "
    "nutmeg before the onions are brown"
)
_SLOT = re.compile(r"{(\w+)}")


def write_text_demo(folder: Path, *, seed: int = 0) -> DemoData:
    """Write the demo texts: ``folder/requests.csv`` with the columns ``text`` and ``label``.

    The ``kind`` of a sample in the truth is as in `labelfix.benchmark.demo.write_demo`; ``broken``
    are empty texts, and ``outlier`` is one about something else.

    Args:
        folder: A folder that is not there yet, or empty.
        seed: Decides what the texts say, and which labels are planted.

    Raises:
        RunError: ``folder`` is there already and not empty, or cannot be written to.
    """
    samples = _samples(np.random.default_rng(seed))
    with demo_folder(folder) as draft:
        with (draft / TABLE_NAME).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("text", "label"))
            writer.writerows((sample.content, sample.given) for sample in samples)
        return write_truth(samples, draft, folder, TABLE_NAME, "texts")


def _samples(rng: np.random.Generator) -> list[DemoSample[str]]:
    texts = [(text, code) for code, kind in enumerate(KINDS) for text in _requests(kind, rng)]
    texts = [texts[place] for place in rng.permutation(len(texts)).tolist()]
    true = np.array([code for _, code in texts])
    alike = np.array([KINDS.index(other) for other in LOOK_ALIKE.values()])
    given, kind = plant(true, alike, rng)
    rows = [
        (text, int(given[row]), int(true[row]), str(kind[row]))
        for row, (text, _) in enumerate(texts)
    ]
    copied, empty, other = rng.choice(np.flatnonzero(kind == "clean"), 3, replace=False).tolist()
    rows.append((texts[copied][0], int(alike[true[copied]]), int(true[copied]), "copy"))
    rows.append(("", int(true[empty]), int(true[empty]), "broken"))
    rows.append((OUTLIER, int(true[other]), int(true[other]), "outlier"))
    return [
        DemoSample(f"{TABLE_NAME}:{row}", KINDS[given], KINDS[true], kind, text)
        for row, (text, given, true, kind) in enumerate(rows)
    ]


def _requests(kind: str, rng: np.random.Generator) -> list[str]:
    """Return different requests of a kind, each template about as often as the others."""
    made: dict[str, None] = {}
    while len(made) < OF_EACH:
        template = TEMPLATES[kind][len(made) % len(TEMPLATES[kind])]
        made[_filled(template, rng)] = None
    return list(made)


def _filled(template: str, rng: np.random.Generator) -> str:
    before, after = _BEFORE[rng.integers(len(_BEFORE))], _AFTER[rng.integers(len(_AFTER))]

    def fill(slot: re.Match[str]) -> str:
        return _value(slot[1], rng)

    body = _SLOT.sub(fill, template)
    body = body if body[-1] in "?." or not after else f"{body}."
    return f"{before}{body}{_SLOT.sub(fill, after)}"


def _value(slot: str, rng: np.random.Generator) -> str:
    if slot == "sum":
        return f"{rng.integers(3, 400)}.{rng.integers(100):02} euros"
    if slot == "code":
        return f"{'ABCDEFGH'[rng.integers(8)]}{rng.integers(100, 1000)}"
    choices = {"when": _WHEN, "card": _CARDS}.get(slot, _ITEMS)
    value = choices[rng.integers(len(choices))]
    return value[0].upper() + value[1:] if slot.endswith("_i") else value
