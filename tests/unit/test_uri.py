"""Names of tokens and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.uri import Uri

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"pin", "pin-value", "passphrase", "password", "secret"}
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def uris(draw: st.DrawFn) -> Uri:
    pairs = [
        tuple(draw(st.dictionaries(NAMES, VALUES, max_size=3)).items()) for _ in ("path", "query")
    ]
    return Uri(draw(NAMES), *pairs)


@given(uris())
def test_writing_then_reading_is_the_identity(uri: Uri) -> None:
    text = str(uri)
    assert Uri.parse(text) == uri
    assert text.isprintable()


HOSTILE = {
    "empty": "",
    "no scheme": "key",
    "no scheme name": ":key=a",
    "scheme in capitals": "SOFT:key=a",
    "scheme with a slash": "so/ft:key=a",
    "no value": "soft:key",
    "no name": "soft:=a",
    "name in capitals": "soft:Key=a",
    "twice": "soft:key=a;key=b",
    "cut escape": "soft:key=%4",
    "wrong escape": "soft:key=%zz",
    "not UTF-8": "soft:key=%ff",
    "pin": "pkcs11:token=a?pin-value=1234",
    "pin in the path": "soft:pin=1234",
    "passphrase": "soft:passphrase=hunter2",
    "password": "soft:password=hunter2",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        Uri.parse(HOSTILE[name])
    assert "1234" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_rfc_7512_names_are_read() -> None:
    uri = Uri.parse("pkcs11:token=My%20token;object=my-key;type=private?module-name=softhsm2")
    assert uri.get("token") == "My token"
    assert uri.get("module-name") == "softhsm2"
    assert uri.get("serial") is None


def test_attributes_are_set_and_dropped() -> None:
    token = Uri.parse("soft:store=a")
    key = token.with_attribute("key", "x")
    assert str(key) == "soft:store=a;key=x"
    assert str(key.with_attribute("key", "y")) == "soft:store=a;key=y"
    assert key.without("key") == token
