"""Tokens that will not do what a key is for, or make other keys than they are told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from interposer import Rv

from mesh_hsm.curves import P384
from mesh_hsm.custody import CustodyClass
from mesh_hsm.errors import MeshHsmError, UnsupportedError
from mesh_hsm.provider import KeySpec, Primitive, Use
from mesh_hsm_pkcs11.records import Record, Records

from .conftest import Hsm

SECRETIVE = ["no_null_kdf", "sensitive_derived", "silently_sensitive"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records written meanwhile. No key is made on a token before its record."""
    written: list[Record] = []
    save = Records.save

    def spy(self: Records, record: Record) -> None:
        written.append(record)
        save(self, record)

    monkeypatch.setattr(Records, "save", spy)
    return written


# -- tokens whose agreements cannot be read (FIPS) -------------------------------------------------


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.AUTHENTICATE])
@pytest.mark.parametrize("first", ["", "login_first"], ids=["", "login first"])
@pytest.mark.parametrize("feature", SECRETIVE)
def test_no_readable_secret_no_key(
    hsm: Hsm, written: list[Record], feature: str, first: str, use: Use
) -> None:
    """Refused before a key is made, with what to think of; signature keys are still to be had."""
    hsm.interposer.speak(feature, *filter(None, [first]))
    token = hsm.open()
    with pytest.raises(UnsupportedError) as refused:
        token.generate(KeySpec("P-384", use, "agree"))
    assert "FIPS" in str(refused.value)
    assert written == []
    said = {(one.algorithm, one.primitive) for one in token.capabilities()}
    assert ("P-384", Primitive.AGREE_X) not in said
    assert ("P-384", Primitive.SIGN) in said
    assert first or {primitive for _, primitive in said} == {Primitive.SIGN}
    assert "FIPS" in (token.why_not("P-384", use) or "")
    with pytest.raises(UnsupportedError):
        token.seal("seed", b"a seed")
    token.generate(KeySpec("P-384", Use.SIGN, "sign")).sign(bytes(48))
    (key,) = token.keys()
    assert key.label == "sign"


@pytest.mark.parametrize("feature", SECRETIVE)
def test_a_token_that_becomes_so(hsm: Hsm, feature: str) -> None:
    """A policy that was switched on after the key was made: a clear error, and no answer."""
    token = hsm.open()
    key = token.generate(KeySpec("P-384", Use.ENCRYPT, "agree"))
    key.agree(P384.base)
    hsm.interposer.speak(feature)
    with pytest.raises(MeshHsmError, match="agree"):
        key.agree(P384.base)
    hsm.interposer.reset()
    assert key.agree(P384.base).x == key.public.x


# -- keys that can leave, or may -------------------------------------------------------------------


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
@pytest.mark.parametrize(
    ("feature", "custody"),
    [("extractable", CustodyClass.EXPORTABLE), ("no_history", CustodyClass.UNKNOWN)],
)
def test_only_where_it_was_asked_for(
    hsm: Hsm, feature: str, custody: CustodyClass, use: Use
) -> None:
    hsm.interposer.speak(feature)
    token = hsm.open()
    with pytest.raises(UnsupportedError) as refused:
        token.generate(KeySpec("P-384", use, "key"))
    assert "--allow-exportable" in (refused.value.hint or "")
    assert token.keys() == []
    key = token.generate(KeySpec("P-384", use, "key", allow_exportable=True))
    assert key.custody().custody is custody
    assert token.capability("P-384", use).custody is custody
    assert token.capability("P-384", use).needs_consent


# -- functions that a module lacks -----------------------------------------------------------------

NEEDED = {
    "C_DeriveKey": Use.ENCRYPT,
    "C_SignInit": Use.SIGN,
    "C_Sign": Use.SIGN,
    "C_GenerateKeyPair": Use.ENCRYPT,
}


@pytest.mark.parametrize("function", NEEDED)
def test_no_key_that_could_not_be_used(hsm: Hsm, written: list[Record], function: str) -> None:
    """Known before one is made, and said why."""
    hsm.interposer.always(function)
    token = hsm.open()
    use = NEEDED[function]
    with pytest.raises(UnsupportedError):
        token.generate(KeySpec("P-384", use, "key"))
    with pytest.raises(UnsupportedError):
        token.generate(KeySpec("P-384", use, "key"))
    assert written == [] or function == "C_GenerateKeyPair"
    assert token.keys() == []


@pytest.mark.parametrize("function", ["C_GetMechanismList", "C_GetMechanismInfo"])
def test_a_module_that_does_not_tell_its_mechanisms(hsm: Hsm, function: str) -> None:
    """No key is made there, and one that exists is used without asking."""
    uri = hsm.open().generate(KeySpec("P-384", Use.ENCRYPT, "key")).uri
    hsm.close()
    hsm.interposer.always(function)
    token = hsm.open()
    assert token.key(uri).agree(P384.base)
    for _ in range(2):
        with pytest.raises(MeshHsmError):
            token.generate(KeySpec("P-384", Use.ENCRYPT, "another"))
        with suppress(MeshHsmError):
            token.capabilities()
        with suppress(MeshHsmError):
            token.why_not("P-384", Use.ENCRYPT)
    (key,) = token.keys()
    assert key.label == "key"


USED = {
    "C_DeriveKey": UnsupportedError,
    "C_SignInit": UnsupportedError,
    "C_Sign": UnsupportedError,
    "C_Login": UnsupportedError,
    "C_OpenSession": UnsupportedError,
    "C_FindObjectsInit": UnsupportedError,
    "C_FindObjects": UnsupportedError,
    "C_GetAttributeValue": MeshHsmError,
    "C_DestroyObject": MeshHsmError,
    "C_GetTokenInfo": MeshHsmError,
    "C_GetSlotList": MeshHsmError,
}


@pytest.mark.parametrize("function", USED)
def test_a_function_that_is_not_supported(hsm: Hsm, function: str) -> None:
    """Cold and warm: one of our errors on one line, or it was not needed; then all is as before."""
    token = hsm.open()
    uris = [token.generate(KeySpec("P-384", use, f"{use}")).uri for use in (Use.ENCRYPT, Use.SIGN)]

    def use_both() -> None:
        with hsm.open() as again:
            again.key(uris[0]).agree(P384.base)
            again.key(uris[1]).sign(bytes(48))

    use_both()
    hsm.interposer.always(function, Rv.FUNCTION_NOT_SUPPORTED)
    with suppress(MeshHsmError):  # what is known already need not be asked again
        use_both()
    hsm.interposer.clear()
    use_both()
    hsm.close()
    hsm.interposer.always(function, Rv.FUNCTION_NOT_SUPPORTED)
    with pytest.raises(USED[function]) as refused:
        use_both()
    assert "\n" not in str(refused.value)
    hsm.interposer.clear()
    use_both()
