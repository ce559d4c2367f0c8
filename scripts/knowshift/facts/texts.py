"""Texts of facts and names: how they are tidied where they are read, and what is wrong with one.

Two spellings that a reader cannot tell apart must be one text, or a training set could hold a test fact.
"""

import re
import unicodedata

LONGEST_TEXT = 1000  # characters; anything longer is no fact

# Characters that show nothing: soft hyphen, zero-width spaces, marks of direction, fillers, byte order marks.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb]"
)
# Joiners shape the letters of Arabic, Indic and some other scripts, and emoji; elsewhere they show nothing.
_STRAY_JOINERS = re.compile("(?:(?<![\u0590-\U0010ffff])|(?<=\\s))[\u200c\u200d]+|[\u200c\u200d]+(?=\\s|$)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACES = re.compile(r"[^\S\x00-\x1f\x7f-\x9f]+")
_SPREADSHEET_ERROR = re.compile(
    r"#(?:REF|VALUE|DIV/0|NUM|NULL|NAME|SPILL|CALC|FIELD|BLOCKED|CONNECT|BUSY|UNKNOWN|EXTERNAL|PYTHON|ERROR|WERT|BEZUG"
    r"|ZAHL|VALEUR|NOMBRE|NOM|VALOR)[!?]"
    r"|#N/A|#GETTING_DATA|\bErr:5\d\d\b|^##+$"
)
_FUNCTION_WORDS = re.compile(
    r"\W*(?:(?:a|an|the|i|he|she|it|we|you|they|his|its|their|this|that|these|those|and|or|but|if|as|at|by|for|from|in"
    r"|into|of|on|to|with|is|are|was|were|be|been|has|have|had|not|then|than|also)\b\W*)+"
)


def tidy(text: str) -> str:
    """Bring a text to the one form in which it counts.

    That is Unicode form NFC without invisible characters, with a single space for white space between words and none
    around them. Line ends and other control characters are kept, for `problem_with_text` to name.
    """
    if len(text) > 20 * LONGEST_TEXT:  # it is refused whatever it holds
        return text
    shown = text
    if not text.isascii():  # NFC twice: it exchanges characters, and removed ones stood between others that it joins
        shown = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
        shown = unicodedata.normalize("NFC", _STRAY_JOINERS.sub("", shown))
    return _SPACES.sub(" ", shown).strip()


def problem_with_text(text: object, name: str) -> str | None:
    """Say what is wrong with a tidied text and what to do about it.

    Args:
        text: the value that should be a text.
        name: what it is, such as "the subject".

    Returns:
        One line for the user, or None if the text is fine.
    """
    if not isinstance(text, str):
        return f"{name} is {type(text).__name__}, not text"
    if not text:
        return f"{name} is empty; fill it in or remove the row"
    if len(text) > LONGEST_TEXT:
        return f"{name} has {len(text):,} characters ({text[:30]!r}…); at most {LONGEST_TEXT:,} are allowed"
    if _CONTROL.search(text):
        return f"there is a control character in {text[:60]!r}; remove it"
    if problem := problem_with_encoding(text):
        return problem
    if error := _SPREADSHEET_ERROR.search(text):
        return f"{text[:60]!r} holds {error[0]}, which a spreadsheet writes where a formula fails; correct it"
    return None


def problem_with_encoding(text: str) -> str | None:
    """Say what is wrong with the characters of a text; None if nothing is."""
    if _SURROGATE.search(text):
        return f"{text[:60]!r} holds half of a character (a lone surrogate); write the character itself"
    if "\ufffd" in text:
        return f"{text[:60]!r} was decoded wrongly before (it holds the replacement character U+FFFD); correct it"
    return None


def problem_with_template(text: str) -> str | None:
    """Say what is wrong with the characters of a template, which stays as it is written; None if nothing is."""
    if invisible := _INVISIBLE.search(text):
        return f"{text[:60]!r} holds the invisible character U+{ord(invisible[0]):04X}; remove it"
    if _CONTROL.search(text.replace("\n", "").replace("\t", "")):
        return f"there is a control character in {text[:60]!r}; remove it"
    return problem_with_encoding(text)


def matches_nearly_anything(name: str) -> bool:
    """Tell whether nearly any answer holds a name: it is an English function word, or one or two signs."""
    if _FUNCTION_WORDS.fullmatch(name.casefold()):
        return True
    return name.isascii() and len(name) < 3 and not any(map(str.isalnum, name))
