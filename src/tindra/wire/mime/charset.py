"""Which charset labels of mail are decoded by which codec, and the one function that decodes.

Only codecs named here are ever looked up: a label from a message never reaches the codec registry,
so no message can pick a slow, stateful or non-text codec. Decoding never fails: malformed octets
become U+FFFD and are reported. Lone surrogates and NUL never come out.
Source: RFC 2045 s5.1, RFC 2046 s4.1.2, RFC 8621 s4.1.4
"""

from __future__ import annotations

import re
import unicodedata

_LABEL_CHARS_MAX = 64
"""A longer charset label is junk; the longest registered name has 45 characters."""

_NFC_WORD_CHARS_MAX = 1_024
"""Normalising sorts runs of combining marks in quadratic time, so longer words stay as they are."""

# codec name of the runtime -> labels met in mail, lower case, "_" written as "-".
# The superset codec is taken where senders use the smaller name for the larger set.
_LABELS: dict[str, str] = {
    "utf-8": "utf-8 utf8 utf-8mb4 unicode-1-1-utf-8 cp65001 utf-8n",
    "utf-7": "utf-7 unicode-1-1-utf-7 csunicode11utf7",
    "utf-16": "utf-16 utf16 unicode csunicode iso-10646-ucs-2 ucs-2",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "utf-32": "utf-32 utf32",
    "utf-32-le": "utf-32le",
    "utf-32-be": "utf-32be",
    "ascii": "us-ascii ascii ansi-x3.4-1968 ansi-x3.4-1986 iso-646.irv:1991 iso646-us us cp367"
    " ibm367",
    "cp1252": "iso-8859-1 iso8859-1 iso88591 iso-8859-1:1987 latin1 latin-1 l1 cp819 ibm819"
    " windows-1252 cp1252 cp-1252 windows1252 win-1252 ansi",
    "iso8859-2": "iso-8859-2 iso8859-2 latin2 latin-2 l2",
    "iso8859-3": "iso-8859-3 iso8859-3 latin3 l3",
    "iso8859-4": "iso-8859-4 iso8859-4 latin4 l4",
    "iso8859-5": "iso-8859-5 iso8859-5 cyrillic",
    "iso8859-6": "iso-8859-6 iso8859-6 iso-8859-6-i iso-8859-6-e arabic",
    "iso8859-7": "iso-8859-7 iso8859-7 greek greek8",
    "iso8859-8": "iso-8859-8 iso8859-8 iso-8859-8-i iso-8859-8-e hebrew visual logical",
    "cp1254": "iso-8859-9 iso8859-9 latin5 l5 windows-1254 cp1254",
    "iso8859-10": "iso-8859-10 iso8859-10 latin6 l6",
    "cp874": "iso-8859-11 iso8859-11 tis-620 tis620 windows-874 cp874",
    "iso8859-13": "iso-8859-13 iso8859-13",
    "iso8859-14": "iso-8859-14 iso8859-14 latin8 l8",
    "iso8859-15": "iso-8859-15 iso8859-15 latin9 latin-9 l9",
    "iso8859-16": "iso-8859-16 iso8859-16 latin10 l10",
    "cp1250": "windows-1250 cp1250",
    "cp1251": "windows-1251 cp1251 win-1251",
    "cp1253": "windows-1253 cp1253",
    "cp1255": "windows-1255 cp1255",
    "cp1256": "windows-1256 cp1256",
    "cp1257": "windows-1257 cp1257",
    "cp1258": "windows-1258 cp1258",
    "koi8-r": "koi8-r koi8 koi cskoi8r",
    "koi8-u": "koi8-u koi8-ru",
    "koi8-t": "koi8-t",
    "kz1048": "kz-1048 kz1048 rk1048 strk1048-2002",
    "ptcp154": "pt154 ptcp154 cp154",
    "cp437": "ibm437 cp437 437",
    "cp775": "ibm775 cp775",
    "cp850": "ibm850 cp850 850",
    "cp852": "ibm852 cp852 852",
    "cp855": "ibm855 cp855 855",
    "cp857": "ibm857 cp857 857",
    "cp858": "ibm00858 cp858 cp00858",
    "cp860": "ibm860 cp860",
    "cp861": "ibm861 cp861",
    "cp862": "ibm862 cp862 dos-862",
    "cp863": "ibm863 cp863",
    "cp864": "ibm864 cp864",
    "cp865": "ibm865 cp865",
    "cp866": "ibm866 cp866 866",
    "cp869": "ibm869 cp869",
    "hp-roman8": "hp-roman8 roman8 r8",
    "mac-roman": "macintosh mac macroman mac-roman",
    "mac-cyrillic": "mac-cyrillic mac-ukrainian maccyrillic",
    "mac-greek": "mac-greek macgreek",
    "mac-turkish": "mac-turkish macturkish",
    "mac-iceland": "mac-icelandic mac-iceland",
    "mac-latin2": "mac-ce mac-centraleurroman mac-latin2",
    "cp932": "shift-jis shiftjis sjis ms-kanji windows-31j cp932 ms932",
    "euc_jp": "euc-jp eucjp",
    "iso2022_jp_2": "iso-2022-jp iso-2022-jp-1 iso-2022-jp-2 csiso2022jp",
    "iso2022_jp_3": "iso-2022-jp-3",
    "iso2022_jp_2004": "iso-2022-jp-2004",
    "cp949": "euc-kr euckr cp949 ks-c-5601-1987 ks-c-5601 ksc5601 ksc-5601 windows-949 uhc korean",
    "iso2022_kr": "iso-2022-kr csiso2022kr",
    "johab": "johab cp1361",
    "gb18030": "gb18030 gbk gb2312 gb-2312 gb2312-80 gb-2312-80 chinese euc-cn euccn cp936 ms936"
    " windows-936 iso-ir-58",
    "hz": "hz-gb-2312 hz-gb2312 hz",
    "big5hkscs": "big5 big-5 big5-hkscs big5hkscs cn-big5 csbig5 big5-eten cp950",
    "euc_jis_2004": "euc-jis-2004 euc-jisx0213",
}
_CODECS: dict[str, str] = {
    label: codec for codec, labels in _LABELS.items() for label in labels.split()
}
_NOT_ASCII_SAFE = frozenset(
    codec for codec in _LABELS if codec.startswith(("utf-7", "utf-16", "utf-32", "hz", "iso2022"))
)
"""Codecs in which octets below 128 may mean something else than ASCII."""

_NEEDS_BOM = frozenset(["utf-16", "utf-32"])
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Only the UTF-7 codec lets lone surrogates through; searching is slow, so only its output is."""


def find_codec(charset: str) -> str | None:
    """The codec of a charset label, None when the label is not on the allow-list."""
    if len(charset) > _LABEL_CHARS_MAX:
        return None
    label = charset.strip(" \t\"'").lower().replace("_", "-")
    return _CODECS.get(label) or _CODECS.get(label.removeprefix("x-"))


def decode_charset(data: bytes, charset: str | None) -> tuple[str, bool]:
    """`data` as text, and whether something in it could not be decoded as its label promised.

    Args:
        charset: label as declared; None means the implicit us-ascii of MIME. What is no us-ascii,
            or under an unknown label, is read as UTF-8, else as windows-1252, and reported.
    Cost: linear.
    Source: RFC 8621 s4.1.4
    """
    codec = "ascii" if charset is None else find_codec(charset)
    if codec in _NOT_ASCII_SAFE:
        return _decode_stateful(data, codec)
    text, is_problem = _decode_stateless(data, codec)
    if b"\0" in data:
        return text.replace("\0", "\ufffd"), True
    return text, is_problem


def decode_octets(value: bytes) -> str:
    """Header octets as text: UTF-8, else windows-1252; NUL is dropped.

    Source: RFC 6532 s3.1, RFC 8621 s4.1.2
    """
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def normalise_nfc(text: str) -> str:
    """`text` in Unicode form C, in linear time.

    A space never composes, so words are normalised one by one; a word that is too long to be one
    is left alone.
    """
    if text.isascii():
        return text
    if len(text) <= _NFC_WORD_CHARS_MAX:
        return unicodedata.normalize("NFC", text)
    return " ".join(
        unicodedata.normalize("NFC", word) if len(word) <= _NFC_WORD_CHARS_MAX else word
        for word in text.split(" ")
    )


def is_ascii_safe(charset: str | None) -> bool:
    """Whether octets below 128 stand for themselves, so that line ends can be seen in octets."""
    return charset is None or find_codec(charset) not in _NOT_ASCII_SAFE


def _decode_stateful(data: bytes, codec: str) -> tuple[str, bool]:
    if codec in _NEEDS_BOM:
        codec = _byte_order(data, codec)
    try:
        text, is_problem = data.decode(codec), False
    except UnicodeDecodeError:
        text, is_problem = data.decode(codec, "replace"), True
    if codec == "utf-7" and _SURROGATE.search(text):
        text, is_problem = _SURROGATE.sub("\ufffd", text), True
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        return text.replace("\0", "\ufffd"), True
    return text, is_problem


def _decode_stateless(data: bytes, codec: str | None) -> tuple[str, bool]:
    if data.isascii():
        return data.decode("ascii"), codec is None
    if codec is None or codec == "ascii":
        try:
            return data.decode("utf-8").removeprefix("\ufeff"), True
        except UnicodeDecodeError:
            return data.decode("cp1252", "replace"), True
    try:
        return data.decode(codec).removeprefix("\ufeff"), False
    except UnicodeDecodeError:
        return data.decode(codec, "replace").removeprefix("\ufeff"), True


def _byte_order(data: bytes, codec: str) -> str:
    """The codec with its byte order: of the mark, else the order that puts zeros in high octets."""
    if data.startswith(_BOMS):
        return codec
    head = data[:256]
    is_big = head[0::2].count(0) >= head[1::2].count(0)
    return codec + ("-be" if is_big else "-le")
