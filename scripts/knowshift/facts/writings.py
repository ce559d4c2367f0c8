"""Ways to write one name that count as one where the configuration says so (`facts.writings`)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from knowshift.allowed_values import Writing

# Marks on Latin, Greek and Cyrillic letters, and those that Hebrew and Arabic may leave out. In other scripts marks are
# vowels. The mark of the Cyrillic short i makes it a letter of its own.
_MARKS = re.compile(
    "(?<![\u0418\u0438])\u0306|[\u0300-\u0305\u0307-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640"
    "\u064b-\u0655\u0670]"
)
# Letters with a stroke, and two letters in one, which Unicode does not take apart.
_LETTERS = str.maketrans(
    {
        **dict(zip("øØłŁđĐðÐħĦıŧŦ", "oOlLdDdDhHitT", strict=True)),
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "þ": "th",
        "Þ": "Th",
    }
)
_GROUPS = re.compile(r"(?<!\d)(?<!\d[.,])\d{1,3}(?:([,'’ \u066c])\d{3}(?:\1\d{3})*|(?:\.\d{3}){2,})(?!\d)")
_LETTER = r"[^\W\d_]"
_ABBREVIATION = re.compile(rf"(?<![\w.]){_LETTER}{{1,3}}(?:\.{_LETTER}{{1,3}})+\.?(?!\w)")  # U.S.A., U.S, Ph.D.
_INITIALS = re.compile(rf"(?<![\w.])(?:{_LETTER}\. )+{_LETTER}\.(?!\w)")  # J. R. R.
# Particles and forms of "to be" that follow a noun without a space.
_PARTICLES = (
    *("은는이가을를의에로와과도만랑뿐나며고다인란"),  # of one syllable
    *("에서", "에게", "께서", "으로", "까지", "부터", "보다", "처럼", "이나", "이랑", "하고", "조차", "마저", "밖에"),
    *("마다", "이며", "이고", "이다", "입니다", "이라고", "라고", "이라는", "라는", "이란", "이에요", "예요", "이었다"),
    *("였다", "이었습니다", "였습니다"),
)
_PARTICLE = "(?:" + "|".join(sorted(_PARTICLES, key=len, reverse=True)) + ")"
_HANGUL = re.compile("[\uac00-\ud7a3]$")


def unify(text: str, writings: Sequence[Writing]) -> str:
    """Bring some ways to write a name to one form, before a text is reduced to its words.

    Args:
        text: what a model wrote, or a name.
        writings: which differences do not count:
            - accents: São Paulo and Sao Paulo, Łódź and Lodz;
            - abbreviations: U.S.A. and USA, J. R. R. and JRR;
            - thousands: 1,234 and 1234, with comma, apostrophe, space, or points between several groups;
            - korean_particles: 서울은 and 서울; nothing is done here, see `with_particles`.

    Returns:
        The text in the common form; as it is if nothing would be left of it.
    """
    made = unicodedata.normalize("NFKC", text)
    if "accents" in writings:
        bare = _MARKS.sub("", unicodedata.normalize("NFD", made.translate(_LETTERS)))
        made = unicodedata.normalize("NFC", bare)
    if "thousands" in writings:
        made = _GROUPS.sub(lambda match: re.sub(r"\D", "", match[0]), made)
    if "abbreviations" in writings:
        made = _INITIALS.sub(lambda match: match[0].replace(". ", "").replace(".", ""), made)
        made = _ABBREVIATION.sub(_joined, made)
    return made if made.strip() else text


def _joined(match: re.Match[str]) -> str:
    """Join the parts of an abbreviation, one of which is a single letter; "end.The" stays two words."""
    parts = match[0].removesuffix(".").split(".")
    return "".join(parts) if min(map(len, parts)) == 1 else match[0]


@lru_cache(maxsize=100_000)
def with_particles(name: str) -> re.Pattern[str] | None:
    """Make the pattern of a Korean name with what may follow it in its word: none, one or two particles.

    Args:
        name: the name in words, in lower case.

    Returns:
        The pattern, which begins where a word begins and ends where one ends; None if the name does not end in Hangul.
    """
    return re.compile(rf"(?<!\S){re.escape(name)}{_PARTICLE}{{0,2}}(?!\S)") if _HANGUL.search(name) else None
