"""The words that tell one text from another."""

import re

_COMMON = """
a about agent all an and any are as at be by can could do does for from get give handle handoff has have how i in into
is it its me my of on or our please request return returns some tell that the their them then there these they this to
tool transfer up use user using want was we what when where which who will with would you your
"""
_COMMON_WORDS = frozenset(_COMMON.split())


def keywords(text: str) -> frozenset[str]:
    """Lower case, without common words and endings; names are split at underscores and capitals."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower()
    found = frozenset(re.findall(r"[^\W\d_]{2,}", spaced))
    return frozenset(map(_stem, found - _COMMON_WORDS))


def _stem(word: str) -> str:
    if word.endswith("ing") and len(word) > 5:
        return word[:-3]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
