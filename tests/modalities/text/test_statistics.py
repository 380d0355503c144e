"""``labelfix.modalities.text``: decoding, shingles and the checks, against naive ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.errors import UnreadableSample
from labelfix.modalities.text.checks import (
    TEXT_CHECKS,
    boilerplate_score,
    broken_encoding_score,
    other_language_score,
    other_script_score,
    too_long_score,
    too_short_score,
)
from labelfix.modalities.text.reading import decode_text, shingles, shown_text
from labelfix.modalities.text.statistics import shingle_similarity, text_statistics

USUAL = "I should like to return what I bought last week"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_texts_are_read_in_the_encodings_that_there_are(encoding):
    assert decode_text("a café".encode(encoding)) == "a café"


@pytest.mark.parametrize("data", [b"", b" \n", b"\xef\xbb\xbf", b"\x1e ", b"PNG\0\1", b"\xff\xfea"])
def test_what_is_no_text_is_refused(data):
    with pytest.raises(UnreadableSample):
        decode_text(data)


def test_two_texts_are_shown_apart():
    assert shown_text(b"one\x1etwo") == "one\n\ntwo"


def naive_jaccard(one, two):
    first, second = set(shingles(one).tolist()), set(shingles(two).tolist())
    return len(first & second) / len(first | second)


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=40).filter(str.strip), min_size=2, max_size=5))
def test_similarity_is_the_jaccard_index_of_shingles(texts):
    first, second = (place.ravel() for place in np.indices((len(texts), len(texts))))
    found = shingle_similarity(text_statistics(texts), first, second)
    wanted = [naive_jaccard(texts[a], texts[b]) for a, b in zip(first, second, strict=True)]
    assert found == pytest.approx(wanted)


def test_case_and_punctuation_make_no_other_text():
    statistics = text_statistics(["How do I activate my card?", "how do I ACTIVATE my card", "No"])
    found = shingle_similarity(statistics, np.array([0, 0]), np.array([1, 2]))
    assert found.tolist() == [1, 0]


def test_long_texts_are_compared_by_a_fair_sample():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(4000)]
    one, two = " ".join(words[:3000]), " ".join(words[1000:])
    assert len(shingles(one)) == 256
    found = shingle_similarity(text_statistics([one, two]), np.array([0]), np.array([1]))
    assert found[0] == pytest.approx(0.5, abs=0.1)


def test_statistics_of_some_rows_are_those_of_their_texts():
    texts = [USUAL, "Совсем другой текст", None, "short", USUAL + "!"]
    some = text_statistics(texts).of(np.array([4, 1]))
    alone = text_statistics([texts[4], texts[1]])
    for name in ("length", "broken", "scripts", "starts", "hashes", "phrases"):
        assert np.array_equal(getattr(some, name), getattr(alone, name)), name


def test_texts_of_odd_length_are_found():
    texts = [USUAL + " again" * (n % 4) for n in range(40)] + ["ok", USUAL * 40]
    statistics = text_statistics(texts)
    assert np.flatnonzero(too_short_score(statistics) < 0.5).tolist() == [40]
    assert np.flatnonzero(too_long_score(statistics) < 0.5).tolist() == [41]


@pytest.mark.parametrize(
    "broken",
    [
        "café au lait".encode().decode("cp1252"),
        "it\u2019s late".encode().decode("cp1252"),
        "Прет".encode().decode("latin-1"),
        "a \ufffd b",
        "a\x92b",
    ],
)
def test_broken_encodings_are_found(broken):
    assert broken_encoding_score(text_statistics([broken]))[0] <= 0.5


@pytest.mark.parametrize(
    "whole",
    [
        "café au lait",
        "«CAFÉ» et «ÉTÉ»",
        "it\u2019s late \u2013 €5 \u201cnow\u201d",
        "SÃO PAULO NÃO",
        "Привет",
        "日本語",
        "ÀÉÎ",
    ],
)
def test_letters_of_every_language_are_whole(whole):
    assert broken_encoding_score(text_statistics([whole]))[0] == 1


def test_texts_in_another_script_are_found():
    texts = [USUAL] * 60 + [
        "Здравствуйте, где мой заказ",
        "12:30 - 14:00",
        "日本語の文",
        "naïve café",
    ]
    scores = other_script_score(text_statistics(texts))
    assert np.flatnonzero(scores < 0.5).tolist() == [60, 62]
    mixed = other_script_score(text_statistics([USUAL, "Здравствуйте"] * 20))
    assert (mixed == 1).all()


def test_texts_in_another_language_are_found():
    english = [
        "I lost my card and need a new one",
        "why was my payment declined yesterday",
        "how long does a transfer to Spain take?",
    ]
    foreign = [
        "Ich habe meine Karte verloren und brauche eine neue",
        "Comment puis-je changer mon code PIN",
        "Perché il mio pagamento è stato rifiutato",
    ]
    scores = other_language_score(text_statistics([*english * 30, *foreign, "ok", "Wo?", None]))
    assert np.flatnonzero(scores < 0.2).tolist() == [90, 91, 92]
    both = other_language_score(text_statistics([*english * 10, *foreign[:1] * 10]))
    assert (both == 1).all(), "a language of a quarter of the texts is no other one"


def test_no_texts_at_all_have_no_scores():
    for check in TEXT_CHECKS:
        assert check.score(text_statistics([])).shape == (0,)


def test_another_currency_makes_another_text():
    statistics = text_statistics(["Why is there a $1 charge?", "Why is there a €1 charge?"])
    assert shingle_similarity(statistics, np.array([0]), np.array([1]))[0] < 0.8


WORDS = (
    "the a my your card phone chair ticket lamp coat bike radio watch book table was is lost found "
    "wants sells bought needs likes broke with from under near again never soon today red old new"
)
FOOTER = "Please consider the environment before you print this message."


def ordinary(count):
    """Return sentences of 16 words drawn at random, of which none begins as another does."""
    words = np.random.default_rng(3).choice(WORDS.split(), (count, 16))
    return [" ".join(row) for row in words]


@pytest.mark.parametrize(
    "made",
    [
        lambda text, _: f"{text} {FOOTER}",
        lambda text, _: f"{text}\n--\n{FOOTER.upper()}",
        lambda text, row: f"{text} {FOOTER} (Ticket {row})",
        lambda text, row: f"Dear client {row}, thank you for your message of last week. {text}",
    ],
)
def test_what_a_template_adds_is_found(made):
    texts = ordinary(400)
    planted = list(range(0, 400, 10))
    for row in planted:
        texts[row] = made(texts[row], row)
    scores = boilerplate_score(text_statistics(texts))
    assert np.flatnonzero(scores < 0.5).tolist() == planted
    assert (scores[1:10] == 1).all()


def test_what_few_texts_share_is_no_boilerplate():
    texts = ordinary(100)
    texts[:21] = [f"{text} {FOOTER}" for text in texts[:21]]
    scores = boilerplate_score(text_statistics(texts))
    assert scores[:21].tolist() == [0.5] * 21
    one_more = boilerplate_score(text_statistics([*texts, texts[0], "short", "", None]))
    assert one_more[[0, -4]] == pytest.approx(1 - 21 / 40)
    assert one_more[21:-4].tolist() == [1] * 79
    assert one_more[-3:].tolist() == [1] * 3


def test_texts_of_few_words_have_no_phrases():
    texts = ["how do I get my card"] * 50 + ["日本語の文"] * 50
    assert (boilerplate_score(text_statistics(texts)) == 1).all()
