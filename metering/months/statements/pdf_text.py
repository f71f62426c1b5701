"""Text for PDFs: fonts that have the letters of most languages, and a way to name others where they are needed.

DejaVu (fonts/, with its licence and checksums) is embedded, so Latin, Greek, Cyrillic, Hebrew and many more look
the same everywhere. Chinese, Japanese and Korean are too many glyphs to ship: those runs name one of the standard
fonts that PDF readers bring along for them.
"""

from importlib.resources import as_file, files
from itertools import groupby
from xml.sax.saxutils import escape

from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont

TEXT, BOLD = "Text", "TextBold"
_CHINESE, _JAPANESE, _KOREAN = "STSong-Light", "HeiseiKakuGo-W5", "HYGothic-Medium"


def _register() -> frozenset[int]:
    """Make the fonts known; the code points that the embedded ones have."""
    folder = files("metering.months.statements").joinpath("fonts")
    with as_file(folder) as path:
        text = TTFont(TEXT, str(path / "DejaVuSans.ttf"))
        bold = TTFont(BOLD, str(path / "DejaVuSans-Bold.ttf"))
    for font in (text, bold, *map(UnicodeCIDFont, (_CHINESE, _JAPANESE, _KOREAN))):
        registerFont(font)
    return frozenset(text.face.charToGlyph) & frozenset(bold.face.charToGlyph)


_EMBEDDED = _register()


def markup(text: str) -> str:
    """Text as a paragraph's markup: nothing in it is markup itself, and each run is in a font that has it."""
    others = [character for character in text if ord(character) not in _EMBEDDED]
    if not others:
        return escape(text)
    other = _font_for(others)
    runs = groupby(text, key=lambda character: ord(character) in _EMBEDDED)
    return "".join(
        escape("".join(run)) if embedded else f'<font name="{other}">{escape("".join(run))}</font>'
        for embedded, run in runs
    )


def _font_for(characters: list[str]) -> str:
    """Han characters alone do not say whose they are; kana and hangul beside them do."""
    if any("぀" <= each <= "ヿ" for each in characters):
        return _JAPANESE
    if any("가" <= each <= "힣" or "ᄀ" <= each <= "ᇿ" for each in characters):
        return _KOREAN
    return _CHINESE
