"""Makes the documents that hang on the demo mail: PDF, CSV, Word, Excel and OpenDocument files.

All of them are small, valid, and the same bytes for the same words. No document library.
Sources: PDF Reference 1.4 chapter 3; ECMA-376 part 2 (packages); OpenDocument 1.2 part 3.
"""

from __future__ import annotations

import io
import zipfile
from html import escape
from typing import Final

from tindra.app.demo.mail.paint import draw_landscape

_ZIP_DATE: Final = (2020, 1, 1, 0, 0, 0)
_XML: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_MAIN_SHEET: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPE: Final = "application/vnd.openxmlformats-officedocument"
_ODF: Final = "urn:oasis:names:tc:opendocument:xmlns"
_ODP_TYPE: Final = "application/vnd.oasis.opendocument.presentation"

MEDIA_TYPES: Final = {
    "pdf": "application/pdf",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
    "docx": f"{_TYPE}.wordprocessingml.document",
    "xlsx": f"{_TYPE}.spreadsheetml.sheet",
    "odp": _ODP_TYPE,
}


def make_document(kind: str, filename: str, lines: list[str]) -> bytes:
    """The bytes of a document that says `lines`.

    Args:
        kind: a key of `MEDIA_TYPES`.
    """
    if kind == "png":
        return draw_landscape(filename)
    if kind == "pdf":
        return make_pdf([filename.removesuffix(".pdf").replace("-", " ").title(), "", *lines])
    if kind == "csv":
        return make_csv(lines)
    if kind == "docx":
        return make_docx(lines)
    if kind == "xlsx":
        return make_xlsx(lines)
    return make_odp(lines)


def make_pdf(lines: list[str]) -> bytes:
    """One page of Helvetica; what Latin-1 cannot say becomes a question mark."""
    shown = []
    for line in lines:
        text = line.encode("latin-1", "replace")
        for char in (b"\\", b"(", b")"):
            text = text.replace(char, b"\\" + char)
        shown.append(b"(" + text[:90] + b") Tj T*")
    content = b"BT /F1 11 Tf 16 TL 64 760 Td\n" + b"\n".join(shown) + b"\nET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def make_csv(lines: list[str]) -> bytes:
    """Numbered lines, with a byte order mark as spreadsheets like it."""
    doubled = [line.replace('"', '""') for line in lines]
    rows = ["no;text", *(f'{i};"{line}"' for i, line in _count(doubled))]
    return ("\ufeff" + "\r\n".join(rows) + "\r\n").encode()


def make_docx(lines: list[str]) -> bytes:
    """A Word document, a paragraph a line."""
    body = "".join(f"<w:p><w:r><w:t>{escape(line)}</w:t></w:r></w:p>" for line in lines)
    document = f'<w:document xmlns:w="{_MAIN_WORD}"><w:body>{body}</w:body></w:document>'
    return _office_package(
        "word/document.xml",
        f"{_TYPE}.wordprocessingml.document.main+xml",
        {"word/document.xml": document},
    )


def make_xlsx(lines: list[str]) -> bytes:
    """An Excel workbook with one sheet: number, text."""
    rows = "".join(
        f'<row r="{i}"><c r="A{i}"><v>{i}</v></c>'
        f'<c r="B{i}" t="inlineStr"><is><t>{escape(line)}</t></is></c></row>'
        for i, line in _count(lines)
    )
    sheet = f'<worksheet xmlns="{_MAIN_SHEET}"><sheetData>{rows}</sheetData></worksheet>'
    book = (
        f'<workbook xmlns="{_MAIN_SHEET}" xmlns:r="{_OFFICE}">'
        '<sheets><sheet name="Plan" sheetId="1" r:id="rId1"/></sheets></workbook>'
    )
    links = _relationships(f"{_OFFICE}/worksheet", "worksheets/sheet1.xml")
    return _office_package(
        "xl/workbook.xml",
        f"{_TYPE}.spreadsheetml.sheet.main+xml",
        {
            "xl/workbook.xml": book,
            "xl/_rels/workbook.xml.rels": links,
            "xl/worksheets/sheet1.xml": sheet,
        },
        {"/xl/worksheets/sheet1.xml": f"{_TYPE}.spreadsheetml.worksheet+xml"},
    )


def make_odp(lines: list[str]) -> bytes:
    """An OpenDocument presentation, a slide a line."""
    slides = "".join(
        f'<draw:page draw:name="page{i}"><draw:frame svg:x="2cm" svg:y="2cm" svg:width="20cm"'
        f' svg:height="5cm"><draw:text-box><text:p>{escape(line)}</text:p></draw:text-box>'
        "</draw:frame></draw:page>"
        for i, line in _count(lines)
    )
    spaces = "".join(
        f' xmlns:{short}="{_ODF}:{long}:1.0"'
        for short, long in (
            ("office", "office"), ("draw", "drawing"), ("text", "text"), ("svg", "svg-compatible")
        )
    )  # fmt: skip
    content = (
        f'<office:document-content{spaces} office:version="1.2"><office:body>'
        f"<office:presentation>{slides}</office:presentation></office:body>"
        "</office:document-content>"
    )
    entries = "".join(
        f'<manifest:file-entry manifest:full-path="{path}" manifest:media-type="{kind}"/>'
        for path, kind in (("/", _ODP_TYPE), ("content.xml", "text/xml"))
    )
    manifest = (
        f'<manifest:manifest xmlns:manifest="{_ODF}:manifest:1.0" manifest:version="1.2">'
        f"{entries}</manifest:manifest>"
    )
    return _zip(
        {
            "mimetype": _ODP_TYPE,
            "content.xml": _XML + content,
            "META-INF/manifest.xml": _XML + manifest,
        }
    )


def _count(lines: list[str]) -> enumerate[str]:
    return enumerate(lines, 1)


def _relationships(kind: str, target: str) -> str:
    link = f'<Relationship Id="rId1" Type="{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{link}</Relationships>'


def _office_package(
    main: str, main_type: str, parts: dict[str, str], more_types: dict[str, str] | None = None
) -> bytes:
    overrides = {f"/{main}": main_type, **(more_types or {})}
    types = "".join(
        f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in overrides.items()
    )
    head = (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{types}</Types>'
    )
    files = {
        "[Content_Types].xml": head,
        "_rels/.rels": _relationships(f"{_OFFICE}/officeDocument", main),
        **parts,
    }
    return _zip({name: _XML + text for name, text in files.items()})


def _zip(files: dict[str, str]) -> bytes:
    """Files in the order given, always with the same date; the first is stored as it is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return out.getvalue()
