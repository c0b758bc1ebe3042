"""Names of tokens and keys."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.uri import Uri

SECRETS = {"pin", "pin-value", "x-pin-value", "passphrase", "password", "secret"}
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: name not in SECRETS
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

# RFC 7512 §2.3: pk11-pchar and pk11-qchar, pct-encoded included.
PATH = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-F]{2})*\Z")
QUERY = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/?|-]|%[0-9A-F]{2})*\Z")


@st.composite
def uris(draw: st.DrawFn, schemes: st.SearchStrategy[str] = NAMES) -> Uri:
    pairs = [
        tuple(draw(st.dictionaries(NAMES, VALUES, max_size=3)).items()) for _ in ("path", "query")
    ]
    return Uri(draw(schemes), *pairs)


@given(uris(NAMES | st.just("pkcs11")))
def test_writing_then_reading_is_the_identity(uri: Uri) -> None:
    text = str(uri)
    assert Uri.parse(text) == uri
    assert text.isprintable()


@given(uris(st.just("pkcs11")))
def test_pkcs11_names_are_written_with_the_characters_of_rfc_7512_alone(uri: Uri) -> None:
    path, _, query = str(uri).removeprefix("pkcs11:").partition("?")
    assert all(PATH.match(pair) for pair in path.split(";"))
    assert all(QUERY.match(pair) for pair in query.split("&"))


@given(st.binary(max_size=24))
def test_an_id_is_any_octets(octets: bytes) -> None:
    encoded = "".join(f"%{octet:02X}" for octet in octets)
    uri = Uri.parse(f"pkcs11:token=a;id={encoded};type=private")
    assert uri.octets("id") == octets
    assert str(uri) == f"pkcs11:token=a;id={encoded};type=private"
    assert Uri.parse(str(uri)) == uri


def test_octets_of_text_are_its_utf_8() -> None:
    uri = Uri.parse("pkcs11:token=%C3%A9;id=ab")
    assert uri.octets("token") == b"\xc3\xa9"
    assert uri.octets("id") == b"ab"
    assert uri.octets("object") is None


HOSTILE = {
    "empty": "",
    "no scheme": "key",
    "no scheme name": ":key=a",
    "scheme with a slash": "so/ft:key=a",
    "no value": "soft:key",
    "no name": "soft:=a",
    "name in capitals": "soft:Key=a",
    "twice": "soft:key=a;key=b",
    "cut escape": "soft:key=%4",
    "wrong escape": "soft:key=%zz",
    "not UTF-8": "soft:key=%ff",
    "overlong UTF-8": "soft:key=%c0%af",
    "a surrogate in UTF-8": "soft:key=%ed%b3%bf",
    "an octet that the terminal could not decode": "soft:key=\udcff",
    "pin": "pkcs11:token=a?pin-value=1234",
    "pin in the path": "soft:pin=1234",
    "pin in other letters": "pkcs11:token=a?Pin_Value=1234",
    "pin of an early draft": "pkcs11:token=a?x-pin-value=1234",
    "passphrase": "soft:passphrase=hunter2",
    "password": "soft:password=hunter2",
    "id of ours is text": "soft:id=%ff",
    "id in the query is text": "pkcs11:?id=%ff",
    "id twice": "pkcs11:id=%01;id=%01",
    "query attribute twice": "pkcs11:?module-path=/a&module-path=/b",
    "slash in the path": "pkcs11:token=a/b",
    "question mark in the path's value": "pkcs11:token=a?b",
    "space": "pkcs11:token=a b",
    "fragment": "pkcs11:token=a#b",
    "quotation mark": 'pkcs11:token="a"',
    "letters beyond ASCII": "pkcs11:token=é",
    "a lone surrogate": "pkcs11:token=\ud800",
    "line feed": "pkcs11:token=a\nb",
    "bar in the path": "pkcs11:token=a|b",
    "semicolon in the query": "pkcs11:?pin-source=a;b",
    "name with a space": "pkcs11:my token=a",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        Uri.parse(HOSTILE[name])
    said = f"{caught.value} {caught.value.hint}"
    assert "1234" not in said
    assert "hunter2" not in said
    assert said.isprintable()


def test_a_refused_secret_is_told_where_to_go() -> None:
    with pytest.raises(FormatError, match="pin-value") as caught:
        Uri.parse("pkcs11:token=a?pin-value=1234")
    assert caught.value.hint is not None
    assert "--pin-fd" in caught.value.hint
    assert "pin-source" in caught.value.hint


def test_a_raw_character_is_told_how_to_be_written() -> None:
    with pytest.raises(FormatError, match="token") as caught:
        Uri.parse("pkcs11:token=a/b")
    assert caught.value.hint == "write '/' as %2F"


def test_rfc_7512_names_are_read() -> None:
    uri = Uri.parse("pkcs11:token=My%20token;object=my-key;type=private?module-name=softhsm2")
    assert uri.get("token") == "My token"
    assert uri.get("module-name") == "softhsm2"
    assert uri.get("serial") is None


# After the examples of RFC 7512 §3, written as we do: ids encoded, else only what must be.
EXAMPLES = {
    "empty": "pkcs11:",
    "public key": "pkcs11:object=my-pubkey;type=public",
    "PIN in a file": "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
    "PIN from a command": "pkcs11:token=a?pin-source=|/usr/lib/pinomatic",
    "full": "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;"
    "manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=cert;"
    "id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
    "library": "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;"
    "library-description=Soft%20Token%20Library;library-version=1.23",
    "slot": "pkcs11:slot-description=Sun%20Metaslot",
    "module": "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11",
    "module path": "pkcs11:object=my-sign-key?module-path=/mnt/libmypkcs11.so.1",
    "percent sign": "pkcs11:token=My%20token%25%20created%20by%20Joe;type=public",
    "semicolon": "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate",
    "beyond ASCII": "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;type=cert",
    "vendor attributes": "pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a"
    "?pin-source=file:/etc/token_pin&vendor_bbb=value-b",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_like_those_of_rfc_7512_come_back_as_they_stand(name: str) -> None:
    assert str(Uri.parse(EXAMPLES[name])) == EXAMPLES[name]


def test_our_own_schemes_stay_readable() -> None:
    assert str(Uri.parse("tpm2:tcti=swtpm:path=/x/y")) == "tpm2:tcti=swtpm:path=/x/y"


@pytest.mark.parametrize("scheme", ["pkcs11", "soft"])
def test_a_name_in_quotation_marks_is_one_word_of_a_shell(scheme: str) -> None:
    text = f"{scheme}:token='$(reboot)'?pin-source='$(reboot)'"
    written = str(Uri.parse(text))
    assert shlex.split(f"'{written}'") == [written]
    assert Uri.parse(written) == Uri.parse(text)


def test_a_scheme_is_the_same_in_capitals() -> None:
    assert Uri.parse("PKCS11:token=a") == Uri.parse("pkcs11:token=a")


def test_attributes_are_set_and_dropped() -> None:
    token = Uri.parse("soft:store=a")
    key = token.with_attribute("key", "x")
    assert str(key) == "soft:store=a;key=x"
    assert str(key.with_attribute("key", "y")) == "soft:store=a;key=y"
    assert key.without("key") == token
