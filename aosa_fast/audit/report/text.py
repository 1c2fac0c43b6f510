"""Text of the page: hostile names made fit to be shown, numbers as people read them, words for a shell."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

_REPLACEMENT = "\ufffd"
_NOTHING = "\N{EN DASH}"
# What would be invisible, reorder the text around it, or cannot be written as UTF-8. Marks that right-to-left words
# need (U+200E, U+200F) stay.
_SHOWN: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    **dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), _REPLACEMENT),
    **{code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))},
}


def visible(text: str) -> str:
    """The text without surrogates, and with control characters and overrides of direction as visible signs."""
    return text.translate(_SHOWN)


def exact(value: Any) -> str:
    """A value for the script, as JSON that is visible as it is, whatever its texts hold."""
    return json.dumps(value)


def shorten(text: str, most: int) -> str:
    """The text, or its beginning and end where it has more than `most` characters."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def number(value: float | None) -> str:
    """A number with three digits, or all before the point; a dash for None and what is not finite."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as percentage; a dash for None and what is not finite."""
    if share is None or not math.isfinite(share):
        return _NOTHING
    return f"{share:.{1 if 0 < share < 0.1 else digits}%}"


def probability(value: float | None) -> str:
    """A probability with three digits behind the point; never 1 where it is less."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def p_value(value: float) -> str:
    """A corrected p-value."""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"


def shell_word(text: str) -> str:
    """One word of a command; what cannot be seen is written as an escape, which bash and zsh read."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escape, text))}'"


def _escape(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 0x80 else f"\\U{ord(character):08x}"
