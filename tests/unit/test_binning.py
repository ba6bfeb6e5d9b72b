"""Parts of a dataset: lengths, ranges of numbers, languages."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from lumigator_nb.errors import MissingExtraError
from lumigator_nb.metrics.kernels import languages
from lumigator_nb.services.comparison.binning import language_bins, length_bins, parts_of, quantile_bins


def test_texts_fall_into_thirds_by_their_words():
    found = length_bins([" ".join(["word"] * n) for n in range(1, 10)])
    assert found == ["up to 3 words"] * 3 + ["4 to 6 words"] * 3 + ["more than 6 words"] * 3


@pytest.mark.parametrize(
    ("lengths", "labels"),
    [
        ([5, 5, 5], ["all words"] * 3),
        ([5, 5, 9], ["up to 5 words", "up to 5 words", "more than 5 words"]),
        ([1, 1, 1, 1, 1, 9], ["up to 1 words"] * 5 + ["more than 1 words"]),
        ([1, 2, 3], ["up to 1 words", "2 words", "more than 2 words"]),
        ([7], ["all words"]),
        ([], []),
    ],
)
def test_few_lengths_make_few_parts(lengths, labels):
    assert length_bins([" ".join(["a"] * n) for n in lengths]) == labels


def test_texts_without_spaces_are_measured_in_characters():
    assert length_bins(["请重置我的密码。" * n for n in (4, 8, 16)])[0] == "up to 32 characters"


def test_every_number_lies_in_the_part_whose_name_it_has():
    values = np.random.default_rng(0).integers(0, 1000, size=500)
    first, middle, last = sorted(set(quantile_bins(values)), key=lambda name: ("up" not in name, "to" not in name))
    start, _, end = middle.partition(" to ")
    for value, name in zip(values, quantile_bins(values), strict=True):
        expected = first if value < int(start) else middle if value <= int(end) else last
        assert name == expected
    assert pd.Series(quantile_bins(values)).value_counts(normalize=True).between(0.3, 0.37).all()


def test_fractions_and_missing_numbers():
    found = quantile_bins([0.5, 1.5, math.nan, 2.5])
    assert found == ["up to 0.5", "over 0.5 to 1.5", "(none)", "more than 1.5"]
    assert quantile_bins([math.nan]) == ["(none)"]


@pytest.mark.parametrize("start", [0, 10_000_000, 0.5, 10_000_000.5, -7.25])
def test_names_tell_large_numbers_apart(start):
    values = start + np.arange(9)
    names = quantile_bins(values)
    assert [names.count(name) for name in dict.fromkeys(names)] == [3, 3, 3]
    numbers = {word for name in names for word in name.split() if word[-1].isdigit()}
    assert len(numbers) == (3 if float(start).is_integer() else 2)


def test_columns_of_many_numbers_are_ranges_and_others_stay():
    assert parts_of(pd.Series(range(30)))[0] == "up to 9"
    assert parts_of(pd.Series([1, 2, 1])) == ["1", "2", "1"]
    assert parts_of(pd.Series([True, False] * 20))[0] == "True"
    assert parts_of(pd.Series(["a", None])) == ["a", "(none)"]
    assert parts_of(pd.Series([*range(30), None], dtype="Int64"))[-1] == "(none)"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The invoice was sent to the wrong address last week.", "English"),
        ("Die Rechnung wurde letzte Woche an die falsche Adresse geschickt.", "German"),
        ("La facture a été envoyée à la mauvaise adresse.", "French"),
        ("今天天气很好,我们去公园散步吧。", "Chinese"),
        ("Счёт был отправлен на неправильный адрес.", "Russian"),
        ("The invoice was sent to the wrong address last week. " * 100, "English"),
        ("ok", "unsure"),
        ("", "unsure"),
        ("12345 67890 12345 67890 123", "unsure"),
        ("https://example.org/a/b/c?d=e&f=g", "unsure"),
        ("\ud800" * 30, "unsure"),
    ],
)
def test_languages_are_named_or_unsure(text, language):
    pytest.importorskip("py3langid")
    assert language_bins([text]) == [language]


def test_without_the_package_the_extra_is_named(monkeypatch):
    languages._classifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtraError, match=r"lumigator-nb\[languages\]"):
        language_bins(["The invoice was sent to the wrong address."])
