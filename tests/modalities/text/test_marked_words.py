"""Words are marked by how much more often texts of one class hold them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from written_texts import sentences

from labelfix.modalities.text.marked_words import MOST_MARKED, WordMarker
from labelfix.types import MISSING

TEXTS, NAMES = sentences(80)
LABEL = np.array([["refund", "travel"].index(name) for name in NAMES])


def marker(texts=TEXTS, label=LABEL):
    return WordMarker.of(lambda row: texts[row], np.array(label))


def marked(parts):
    return {part.text: part.speaks_for for part in parts if part.speaks_for is not None}


def test_words_of_each_class_are_marked_for_it_and_common_words_for_none():
    texts = [*TEXTS, "my refund money for the hotel and the flight with Invoice"]
    found = marked(marker(texts, [*LABEL, MISSING]).parts(80, 0, 1))
    assert found == {"refund": 0, "money": 0, "Invoice": 0, "hotel": 1, "flight": 1}


def test_the_other_order_of_classes_marks_the_same_words():
    found = marker()
    for row in range(10):
        assert marked(found.parts(row, 0, 1)) == marked(found.parts(row, 1, 0))


def test_a_text_says_nothing_about_its_own_words():
    texts = [*TEXTS, "refund xylophone"]
    assert "xylophone" not in marked(marker(texts, [*LABEL, 0]).parts(80, 0, 1))


def test_labels_that_are_not_trusted_count_for_nothing():
    label = np.full(80, MISSING)
    assert marked(marker(label=label).parts(0, 0, 1)) == {}


def test_few_words_are_marked():
    texts = [*TEXTS, " ".join(set(" ".join(TEXTS).split()))]
    found = marked(marker(texts, [*LABEL, MISSING]).parts(80, 0, 1))
    for code in (0, 1):
        assert sum(other == code for other in found.values()) == MOST_MARKED


@given(st.text(max_size=200))
def test_the_parts_are_the_text(text):
    parts = marker([*TEXTS, text], [*LABEL, MISSING]).parts(80, 0, 1)
    assert "".join(part.text for part in parts) == text
