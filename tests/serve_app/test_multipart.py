"""Forms, read as they come."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import InvalidRequest
from serve_app.api.multipart import MAX_HEAD_BYTES, MAX_PARTS, Multipart, Part

TYPE = 'multipart/form-data; boundary="a b"'


def form(*parts, end=b"--\r\n"):
    said = b"".join(b"--a b\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return said + b"--a b" + end


def field(name, content, more=b""):
    return b'Content-Disposition: form-data; name="' + name + b'"' + more, content


def read(pieces, content_type=TYPE):
    parser, parts = Multipart(content_type), []
    for piece in pieces:
        for said in parser.feed(piece):
            if isinstance(said, Part):
                parts.append((said.name, said.filename, b""))
            else:
                parts[-1] = (*parts[-1][:2], parts[-1][2] + said)
    parser.close()
    return parts


@given(
    content=st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n--a", b"\r\n--a ", b"--a b", b"\r\n\r\n", b"\r", b"\r\n--a c--"])),
    cuts=st.lists(st.integers(0, 300), max_size=12),
)
def test_however_it_is_cut_the_content_is_what_was_sent(content, cuts):
    if b"\r\n--a b" in b"\r\n" + content + b"\r\n":
        return
    body = b"preamble\r\n" + form(field(b"purpose", b"batch"), field(b"file", content, b'; filename="x.jsonl"')) + b"epilogue"
    ends = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    pieces = [body[begin:end] for begin, end in itertools.pairwise(ends)]
    assert read(pieces) == [("purpose", None, b"batch"), ("file", "x.jsonl", content)]


def test_it_may_come_byte_by_byte():
    body = form(field(b"file", b"one\r\ntwo", b'; filename="\xc3\xbc.jsonl"'))
    assert read(bytes([byte]) for byte in body) == [("file", "ü.jsonl", b"one\r\ntwo")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (form(field(b"file", b"x"), end=b""), "closing boundary"),
        (b"", "closing boundary"),
        (form((b"Content-Type: text/plain", b"x")), "no name"),
        (form(field(b"a", b"x"), end=b"xx"), "something else"),
        (b"--a b\r\n" + b"x" * (MAX_HEAD_BYTES + 1), "longer than"),
        (form(*[field(b"a", b"")] * (MAX_PARTS + 1)), "more than"),
    ],
)
def test_what_is_no_form_is_refused(body, says):
    with pytest.raises(InvalidRequest, match=says):
        read([body])


@given(disposition=st.text(max_size=80).map(lambda text: f"form-data; name=a; filename{text}"), pieces=st.lists(st.binary(max_size=40)))
def test_nonsense_is_refused_or_read_and_never_breaks(disposition, pieces):
    body = form((f"Content-Disposition: {disposition}".encode("utf-8", "replace"), b"x"))
    for said in (pieces, [body, *pieces]):
        with contextlib.suppress(InvalidRequest):
            read(said)
    with contextlib.suppress(InvalidRequest):
        Multipart(f"multipart/form-data; {disposition}")


@pytest.mark.parametrize("content_type", [None, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 71])
def test_what_does_not_say_that_it_is_a_form_is_refused(content_type):
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        Multipart(content_type)
