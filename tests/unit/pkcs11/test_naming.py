"""Which token and which key a ``pkcs11:`` URI means (RFC 7512)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError, MeshHsmError, NotFoundError
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.naming import (
    KeyName,
    TokenFacts,
    field,
    key_name,
    key_uri,
    matches,
    module_path,
    token_uri,
    token_uris,
)

SOFT = TokenFacts(
    label="My token/1",
    manufacturer="SoftHSM project",
    model="SoftHSM v2",
    serial="0123456789abcdef",
    slot_id=1234567,
    slot_description="SoftHSM slot ID 0x12d687",
    slot_manufacturer="SoftHSM project",
    library_manufacturer="SoftHSM",
    library_description="Implementation of PKCS11",
    library_version="2.6",
)
BLANK = replace(SOFT, label="", serial="", slot_id=2, initialised=False)

MATCHING = {
    "empty": "pkcs11:",
    "label": "pkcs11:token=My%20token%2F1",
    "as p11tool prints it": "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;"
    "serial=0123456789abcdef;token=My%20token%2F1",
    "a key on it": "pkcs11:token=My%20token%2F1;id=%01%FF;object=k;type=private",
    "slot": "pkcs11:slot-id=1234567;slot-manufacturer=SoftHSM%20project",
    "slot, leading zero": "pkcs11:slot-id=01234567",
    "slot's description": "pkcs11:slot-description=SoftHSM%20slot%20ID%200x12d687",
    "library": "pkcs11:library-manufacturer=SoftHSM;library-version=2.6",
    "library's description": "pkcs11:library-description=Implementation%20of%20PKCS11",
    "what is in the query": "pkcs11:token=My%20token%2F1?module-path=/x.so&vendor-said=y",
}
OTHER = {
    "part of the label": "pkcs11:token=My%20token",
    "another case": "pkcs11:token=my%20token%2F1",
    "empty label": "pkcs11:token=",
    "serial": "pkcs11:token=My%20token%2F1;serial=0",
    "model": "pkcs11:model=v3",
    "manufacturer": "pkcs11:manufacturer=Snake%20Oil",
    "slot": "pkcs11:slot-id=1",
    "slot's maker": "pkcs11:slot-manufacturer=x",
    "slot's description": "pkcs11:slot-description=x",
    "library's version": "pkcs11:library-version=2.60",
    "library's major version alone": "pkcs11:library-version=2",
    "library's maker": "pkcs11:library-manufacturer=x",
    "library's description": "pkcs11:library-description=x",
}
MEANINGLESS = {
    "vendor attribute": ("pkcs11:x-colour=blue", NotFoundError, "x-colour"),
    "vendor attribute after one that differs": ("pkcs11:token=x;a_b=1", NotFoundError, "a_b"),
    "attribute in capitals": ("pkcs11:Token=My%20token%2F1", NotFoundError, "Token"),
    "query attribute in the path": ("pkcs11:module-path=%2Fx", NotFoundError, "module-path"),
    "slot that is no number": ("pkcs11:slot-id=0x10", FormatError, "slot-id"),
    "slot below zero": ("pkcs11:slot-id=-1", FormatError, "slot-id"),
    "slot in other digits": ("pkcs11:slot-id=%D9%A1", FormatError, "slot-id"),
    "slot of a thousand digits": ("pkcs11:slot-id=" + "9" * 5000, FormatError, "slot-id"),
    "version that is no number": ("pkcs11:library-version=x", FormatError, "library-version"),
    "version of three parts": ("pkcs11:library-version=2.6.1", FormatError, "library-version"),
    "version without minor": ("pkcs11:library-version=2.", FormatError, "library-version"),
}


@pytest.mark.parametrize("name", MATCHING)
def test_what_is_said_of_a_token_must_fit(name: str) -> None:
    assert matches(Uri.parse(MATCHING[name]), SOFT)


@pytest.mark.parametrize("name", OTHER)
def test_one_attribute_that_differs_means_another_token(name: str) -> None:
    assert not matches(Uri.parse(OTHER[name]), SOFT)


@pytest.mark.parametrize("name", MEANINGLESS)
def test_what_nothing_can_match_is_named(name: str) -> None:
    text, error, said = MEANINGLESS[name]
    with pytest.raises(error, match=said):
        matches(Uri.parse(text), SOFT)


def test_a_misplaced_query_attribute_is_told_where_to_stand() -> None:
    with pytest.raises(NotFoundError) as caught:
        matches(Uri.parse("pkcs11:pin-source=file:%2Fx"), SOFT)
    assert "?pin-source=" in str(caught.value.hint)


def test_versions_are_numbers() -> None:
    facts = replace(SOFT, library_version="3.0")
    assert matches(Uri.parse("pkcs11:library-version=3"), facts)
    assert matches(Uri.parse("pkcs11:library-version=03.0"), facts)
    assert not matches(
        Uri.parse("pkcs11:library-version=3.4"), replace(SOFT, library_version="3.40")
    )


FIELDS = {
    "blanks": (b"My token" + b" " * 24, "My token"),
    "a blank before": (b" x ", " x"),
    "NULs": (b"SoftHSM v2\0\0\0\0", "SoftHSM v2"),
    "blanks, then NULs": (b"x  \0\0", "x"),
    "only blanks": (b" " * 32, ""),
    "UTF-8": ("é".encode() + b"  ", "é"),
    "Latin-1": (b"\xe9  ", "\ufffd"),
    "all of it": (b"x" * 32, "x" * 32),
}


@pytest.mark.parametrize("name", FIELDS)
def test_padding_is_no_part_of_a_string(name: str) -> None:
    octets, text = FIELDS[name]
    assert field(octets) == text


def test_the_canonical_name_of_a_token() -> None:
    assert str(token_uri(SOFT)) == (
        "pkcs11:token=My%20token%2F1;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;"
        "serial=0123456789abcdef"
    )
    assert str(token_uri(replace(SOFT, manufacturer="", serial=""))) == (
        "pkcs11:token=My%20token%2F1;model=SoftHSM%20v2"
    )


def test_a_token_that_is_not_initialised_is_named_by_its_slot() -> None:
    expected = "pkcs11:manufacturer=SoftHSM%20project;model=SoftHSM%20v2;slot-id=2"
    assert str(token_uri(BLANK)) == expected
    assert [str(uri) for uri in token_uris([SOFT, BLANK])][1] == expected


def test_the_way_to_the_token_stays_as_it_was_typed() -> None:
    typed = Uri.parse("pkcs11:?pin-source=file:/p&vendor=v&module-path=/m.so&module-name=m")
    assert str(token_uri(SOFT, typed.query)).partition("?")[2] == (
        "pin-source=file:/p&module-path=/m.so&module-name=m"
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
FACTS = st.builds(
    TokenFacts,
    label=TEXTS,
    manufacturer=st.sampled_from(["", "a", "b"]),
    model=st.sampled_from(["", "a"]),
    serial=st.sampled_from(["", "1", "2"]),
    slot_id=st.integers(0, 2),
    library_version=st.sampled_from(["1.0", "1.1"]),
    initialised=st.booleans(),
)


@given(FACTS)
def test_a_name_of_ours_means_its_token_when_read_again(facts: TokenFacts) -> None:
    uri = Uri.parse(str(token_uri(facts)))
    assert matches(uri, facts)
    assert key_name(Uri.parse(str(key_uri(uri, "k")))) == KeyName("k", None)


@given(st.lists(FACTS, max_size=4, unique=True))
def test_each_name_means_one_token_wherever_they_can_be_told_apart(found: list[TokenFacts]) -> None:
    for facts, uri in zip(found, token_uris(found), strict=True):
        meant = [other for other in found if matches(Uri.parse(str(uri)), other)]
        twins = [
            other
            for other in found
            if other.slot_id == facts.slot_id
            and other.library_version == facts.library_version
            and matches(token_uri(facts), other)
        ]
        assert facts in meant
        assert meant == [facts] or len(twins) > 1


def test_tokens_with_the_same_name_are_told_apart_by_slot() -> None:
    twins = [SOFT, replace(SOFT, slot_id=8)]
    named = token_uris(twins)
    assert [uri.get("slot-id") for uri in named] == ["1234567", "8"]
    assert all(uri.get("library-version") is None for uri in named)
    assert token_uris([SOFT])[0].get("slot-id") is None


def test_a_name_that_also_fits_a_fuller_one_is_not_enough() -> None:
    bare = replace(SOFT, serial="", slot_id=8)
    named = token_uris([SOFT, bare])
    assert [uri.get("slot-id") for uri in named] == [None, "8"]


def test_tokens_in_the_same_slot_of_two_libraries_are_told_apart() -> None:
    other = replace(SOFT, library_version="3.0")
    named = token_uris([SOFT, other])
    assert [uri.get("library-version") for uri in named] == ["2.6", "3.0"]


def test_one_token_reached_in_two_ways_keeps_its_name() -> None:
    assert token_uris([SOFT, SOFT]) == [token_uri(SOFT)] * 2


def test_the_name_of_a_key() -> None:
    token = Uri.parse("pkcs11:token=a?module-path=/m.so")
    assert str(key_uri(token, "my key")) == (
        "pkcs11:token=a;object=my%20key;type=private?module-path=/m.so"
    )


KEYS = {
    "ours": ("pkcs11:token=a;object=k;type=private", KeyName("k", None)),
    "without type": ("pkcs11:object=k", KeyName("k", None)),
    "public half": ("pkcs11:object=k;type=public", KeyName("k", None)),
    "by id": ("pkcs11:id=%00%FF;type=private", KeyName(None, b"\x00\xff")),
    "as p11tool prints it": (
        "pkcs11:model=m;token=a;id=%01%02;object=k;type=private",
        KeyName("k", b"\x01\x02"),
    ),
    "empty label": ("pkcs11:object=;id=%01", KeyName("", b"\x01")),
}
NO_KEYS: dict[str, tuple[str, type[MeshHsmError]]] = {
    "a token": ("pkcs11:token=a", FormatError),
    "in the query": ("pkcs11:token=a?object=k", FormatError),
    "certificate": ("pkcs11:object=k;type=cert", NotFoundError),
    "secret key": ("pkcs11:object=k;type=secret-key", NotFoundError),
    "data": ("pkcs11:object=k;type=data", NotFoundError),
    "no type of RFC 7512": ("pkcs11:object=k;type=Private", FormatError),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_named_by_label_or_id_or_both(name: str) -> None:
    text, expected = KEYS[name]
    assert key_name(Uri.parse(text)) == expected


@pytest.mark.parametrize("name", NO_KEYS)
def test_what_names_no_key_pair_is_refused(name: str) -> None:
    text, error = NO_KEYS[name]
    with pytest.raises(error):
        key_name(Uri.parse(text))


def test_a_module_may_be_named_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "libmodule.so"
    file.touch()
    assert module_path(Uri("pkcs11", (), (("module-path", str(file)),))) == file
    assert module_path(Uri.parse("pkcs11:?module-path=/nowhere/m.so")) == Path("/nowhere/m.so")
    assert module_path(Uri.parse("pkcs11:token=a")) is None
    assert module_path(Uri("pkcs11", (("module-path", str(file)),))) is None


NO_MODULES = {
    "folder": "/",
    "device": "/dev/null",
    "relative": "libmodule.so",
    "home": "~/libmodule.so",
    "empty": "",
    "NUL": "/a\0b",
    "line feed": "/a\nb",
}


@pytest.mark.parametrize("name", NO_MODULES)
def test_what_names_no_module_file_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="module-path") as caught:
        module_path(Uri("pkcs11", (), (("module-path", NO_MODULES[name]),)))
    assert str(caught.value).isprintable()
