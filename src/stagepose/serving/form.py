"""The one picture in form data, as ``curl -F image=@photo.jpg`` and web pages send it.

python-multipart's parser is used directly: its own and Starlette's form classes write large files to a disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = b"image"
WISH = "form data with one part named image, such as curl -F image=@photo.jpg"


class FormError(ValueError):
    """Form data that is not one picture; the message is one line for the client."""


def picture_in(body: bytes, content_type: str) -> bytes:
    """The bytes of the picture's file: the body itself, or the one part of form data. File names are ignored."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return body
    if b"boundary" not in options:
        raise FormError(f"Content-Type: multipart/form-data names no boundary; send {WISH}")
    form = _OnePart()
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise FormError(f"this is no form data as its Content-Type tells ({type(error).__name__}); send {WISH}"
                        ) from error
    if not form.parts:
        raise FormError(f"the form data has no parts; send {WISH}")
    if not form.is_whole:
        raise FormError(f"the form data ends before its last boundary; send {WISH}")
    return bytes(form.data)


class _OnePart:
    """Listens to the parser; a second part ends it."""

    def __init__(self) -> None:
        self.data, self.parts, self.is_whole = bytearray(), 0, False
        self._name, self._value = bytearray(), bytearray()
        self._field: bytes | None = None

    def callbacks(self) -> MultipartCallbacks:
        return {"on_part_begin": self._part_begin, "on_part_data": self._part_data,
                "on_header_field": self._header_field, "on_header_value": self._header_value,
                "on_header_end": self._header_end, "on_headers_finished": self._headers_finished, "on_end": self._end}

    def _part_begin(self) -> None:
        self.parts += 1
        if self.parts > 1:
            raise FormError(f"the form data has more than one part; send {WISH}")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._field = parse_options_header(bytes(self._value))[1].get(b"name")
        self._name.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        if self._field != FIELD:
            raise FormError(f"the form data's part is named {(self._field or b'').decode('utf-8', 'replace')[:80]!r}; "
                            f"send {WISH}")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.data += data[start:end]

    def _end(self) -> None:
        self.is_whole = True
