"""Where keys lie: key files that other tools read, and places in the TPM itself."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, ESYS_TR
from tpm2_pytss.tsskey import TSSPrivKey

from mesh_hsm.curves import P256, P384, verify_prehashed
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import DeviceError, NotFoundError, StorageError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm_tpm2.blobs import KeyFile
from mesh_hsm_tpm2.records import Records
from mesh_hsm_tpm2.structures import sized

from .conftest import PIN, Open

DIGEST = bytes(range(48))
PLACES = range(0x81400000, 0x81800000)


def persistent_handles(rig: Swtpm) -> list[int]:
    with ESAPI(rig.tcti) as esapi:
        _, answer = esapi.get_capability(1, 0x81000000, 64)
        listed = answer.data.handles
        return [int(handle) for handle in listed]


def tool(rig: Swtpm, *arguments: str, at: Path) -> bytes:
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    environment = {**os.environ, "TPM2TOOLS_TCTI": rig.tcti, "TPM2OPENSSL_TCTI": rig.tcti}
    done = subprocess.run(
        arguments, cwd=at, env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def from_der(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return b"".join(number.to_bytes(48, "big") for number in decode_dss_signature(signature))


# -- key files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [PinPolicy.NONE, PinPolicy.ONCE])
def test_openssl_signs_with_our_key_file(
    swtpm: Swtpm, open_token: Open, records: Path, pin: PinPolicy
) -> None:
    """tpm2-openssl, in another process, knowing nothing of us but the file."""
    with open_token() as token:
        public = token.generate(KeySpec("P-384", Use.SIGN, "key", pin)).public
    (records / "digest").write_bytes(DIGEST)
    use_tpm = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
    key = ("-inkey", "key.tss2.pem", "-passin", f"pass:{PIN.decode()}")
    sign = ("-sign", "-in", "digest", "-pkeyopt", "digest:sha384")
    signature = tool(swtpm, "openssl", "pkeyutl", *use_tpm, *key, *sign, at=records)
    assert verify_prehashed(public, DIGEST, from_der(signature))


@pytest.mark.parametrize("pin", [PinPolicy.NONE, PinPolicy.ONCE])
def test_tpm2_pytss_reads_our_key_file(
    swtpm: Swtpm, open_token: Open, records: Path, pin: PinPolicy
) -> None:
    with open_token() as token:
        token.generate(KeySpec("P-384", Use.SIGN, "key", pin))
    key = TSSPrivKey.from_pem((records / "key.tss2.pem").read_bytes())
    assert key.empty_auth is (pin is PinPolicy.NONE)
    with ESAPI(swtpm.tcti) as esapi:
        handle = key.load(esapi, PIN if pin is not PinPolicy.NONE else None)
        esapi.flush_context(handle)


@pytest.mark.parametrize("pcrs", [(), (7,)])
def test_tpm2_tools_load_the_parts_of_our_key_file(
    swtpm: Swtpm, open_token: Open, records: Path, pcrs: tuple[int, ...]
) -> None:
    """tpm2_load takes the parts (its own reader of whole files gives back the parent in 5.4)."""
    with open_token() as token:
        key = token.generate(KeySpec("P-384", Use.ENCRYPT, "key", PinPolicy.ONCE, pcrs))
    blob = Records(records).key_file("key")
    (records / "key.pub").write_bytes(sized(blob.public))
    (records / "key.priv").write_bytes(sized(blob.private))
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda"
    root = ("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-a", attributes, "-c", "root")
    tool(swtpm, *root, at=records)
    load = ("tpm2_load", "-Q", "-C", "root", "-u", "key.pub", "-r", "key.priv", "-c", "key")
    tool(swtpm, *load, at=records)
    tool(swtpm, "tpm2_flushcontext", "-t", at=records)
    said = tool(swtpm, "tpm2_readpublic", "-c", "key", at=records).decode()
    assert f"x: {key.public.x:096x}" in said
    tool(swtpm, "tpm2_flushcontext", "-t", at=records)


def test_we_read_the_key_files_of_tpm2_tools(swtpm: Swtpm, tmp_path: Path) -> None:
    """Octet by octet what we would write."""
    tool(swtpm, "tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "root", at=tmp_path)
    create = ("tpm2_create", "-Q", "-C", "root", "-G", "ecc384", "-u", "pub", "-r", "priv")
    tool(swtpm, *create, at=tmp_path)
    tool(swtpm, "tpm2_flushcontext", "-t", at=tmp_path)
    encode = ("tpm2_encodeobject", "-C", "root", "-u", "pub", "-r", "priv", "-o", "key.pem")
    tool(swtpm, *encode, at=tmp_path)
    tool(swtpm, "tpm2_flushcontext", "-t", at=tmp_path)
    blob = KeyFile.from_pem((tmp_path / "key.pem").read_bytes())
    assert sized(blob.public) == (tmp_path / "pub").read_bytes()
    assert sized(blob.private) == (tmp_path / "priv").read_bytes()


def test_files_are_the_owners_alone(open_token: Open, records: Path) -> None:
    token = open_token()
    token.generate(KeySpec("P-256", Use.SIGN, "key"))
    assert stat.S_IMODE(records.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in records.iterdir()}
    assert {modes["key.key.json"], modes["key.tss2.pem"], modes["storage-root.json"]} == {0o600}


# -- persistent places ----------------------------------------------------------------------------


def test_a_persistent_key(swtpm: Swtpm, open_token: Open, records: Path) -> None:
    """In the TPM alone: no key file, in the owner's range, gone when deleted."""
    before = persistent_handles(swtpm)
    spec = KeySpec("P-384", Use.ENCRYPT, "key", PinPolicy.ONCE, (7,), persistent=True)
    with open_token() as token:
        key = token.generate(spec)
        assert key.agree(P384.base) == key.public
    assert not (records / "key.tss2.pem").exists()
    (place,) = set(persistent_handles(swtpm)) - set(before)
    assert place in PLACES
    swtpm.restart()
    token = open_token()
    again = token.key(key.uri)
    assert again.agree(P384.base) == key.public
    assert f"at {place:#x}, and nowhere else" in " ".join(again.custody().notes)
    token.delete(key.uri)
    assert persistent_handles(swtpm) == before
    with pytest.raises(NotFoundError):
        token.key(key.uri)


def test_persistent_places_are_not_shared(swtpm: Swtpm, open_token: Open) -> None:
    token = open_token()
    specs = [KeySpec("P-256", Use.ENCRYPT, f"{n}", persistent=True) for n in range(3)]
    keys = [token.generate(spec) for spec in specs]
    token.delete(keys[1].uri)
    keys[1] = token.generate(specs[1])
    for key in keys:
        assert key.agree(P256.base) == key.public
    assert len(persistent_handles(swtpm)) == 3


def test_a_persistent_key_that_others_evicted(swtpm: Swtpm, open_token: Open) -> None:
    spec = KeySpec("P-256", Use.ENCRYPT, "key", persistent=True)
    with open_token() as token:
        uri = token.generate(spec).uri
    (place,) = persistent_handles(swtpm)
    with ESAPI(swtpm.tcti) as esapi:
        esapi.evict_control(ESYS_TR.OWNER, esapi.tr_from_tpmpublic(place), place)
    with pytest.raises(DeviceError, match="no longer in the TPM"):
        open_token().key(uri).agree(P256.base)
    token = open_token()
    token.delete(uri)  # what is gone can be cleared from our records
    assert list(token.keys()) == []


def test_a_persistent_key_that_others_replaced(swtpm: Swtpm, open_token: Open) -> None:
    """Neither used nor evicted: it is not ours."""
    spec = KeySpec("P-256", Use.ENCRYPT, "key", persistent=True)
    with open_token() as token:
        uri = token.generate(spec).uri
    (place,) = persistent_handles(swtpm)
    with ESAPI(swtpm.tcti) as esapi:
        esapi.evict_control(ESYS_TR.OWNER, esapi.tr_from_tpmpublic(place), place)
        other, *_ = esapi.create_primary(None, "ecc256")
        esapi.evict_control(ESYS_TR.OWNER, other, place)
        esapi.flush_context(other)
    token = open_token()
    with pytest.raises(DeviceError, match="no longer in the TPM"):
        token.key(uri).agree(P256.base)
    token.delete(uri)
    assert persistent_handles(swtpm) == [place]


@pytest.mark.parametrize("change", ["generate", "change_pin"])
def test_a_failed_record_evicts_the_key(
    swtpm: Swtpm, open_token: Open, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A persistent key without a record would be an orphan in the TPM."""
    spec = KeySpec("P-256", Use.ENCRYPT, "key", PinPolicy.ONCE, persistent=True)
    token = open_token()
    if change == "change_pin":
        token.generate(spec)
    before = persistent_handles(swtpm)
    attempts = {
        "generate": lambda: token.generate(spec),
        "change_pin": lambda: token.change_pin(token.info.uri.with_attribute("key", "key")),
    }

    def full(self, record) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "save", full)
        with pytest.raises(StorageError):
            attempts[change]()
    assert persistent_handles(swtpm) == before
    if change == "generate":
        assert token.generate(spec).public
    else:
        (key,) = token.keys()
        assert key.agree(P256.base) == key.public
