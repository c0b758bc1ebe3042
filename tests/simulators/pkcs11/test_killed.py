"""Processes that die in the middle: what is on the token has a record, and the next one sweeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from interposer import Action, Rule
from softhsm_bench import SofthsmBench

from mesh_hsm.curves import P256
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm_pkcs11.records import _read, this_boot

from .conftest import Hsm

SPEC = KeySpec("P-256", Use.ENCRYPT, "victim")
SCRIPT = """
import sys
from pathlib import Path
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider

secrets = FixedSecrets({SecretKind.PIN: sys.stdin.readline().strip().encode()})
token = Pkcs11Provider(Path(sys.argv[1])).open(Uri.parse(sys.argv[2]), secrets)
match sys.argv[3]:
    case "generate":
        token.generate(KeySpec("P-256", Use.ENCRYPT, "victim"))
    case "import":
        token.import_scalar(KeySpec("P-256", Use.ENCRYPT, "victim"), 12345, ("test",))
    case "delete":
        token.delete(token.info.uri.with_attribute("object", "victim"))
"""
MOMENTS = [
    ("generate", "C_GenerateKeyPair"),
    ("generate", "C_DeriveKey"),
    ("import", "C_CreateObject"),
    ("delete", "C_DestroyObject"),
    ("delete", "C_FindObjectsInit"),
]
MANY = 100


def run(hsm: Hsm, doing: str, *rules: Rule) -> int:
    """Do it in a process of its own. The signal that killed it, or 0."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(hsm.records), hsm.rig.uri, doing],
        input=f"{hsm.rig.pin}\n",
        env=os.environ | hsm.interposer.environment(rules=rules),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return -done.returncode


def orphans(hsm: Hsm) -> list[object]:
    """Objects on the token that no record names, at whichever stage it is."""
    recorded = {_read(path).octets for path in hsm.records.rglob("*.key.json")}
    bench = SofthsmBench(hsm.rig, hsm.interposer, hsm.records)
    return [one for one in bench._objects() if one[1] not in recorded]


@pytest.mark.parametrize("action", [Action.KILL, Action.KILL_AFTER], ids=["before", "after"])
@pytest.mark.parametrize(("doing", "call"), MOMENTS, ids=[" at ".join(m) for m in MOMENTS])
def test_a_killed_process_leaves_no_orphan(hsm: Hsm, doing: str, call: str, action: Action) -> None:
    """At each of the calls in turn. What it left, the next who makes or deletes a key removes."""
    bystander = hsm.open().generate(KeySpec("P-256", Use.ENCRYPT, "bystander")).uri
    for nth in range(1, MANY):
        if doing == "delete":
            with hsm.open() as token:
                token.generate(SPEC)
        hsm.close()
        hsm.interposer.finalise()  # SoftHSM sees what others made once it starts anew
        killed = run(hsm, doing, Rule(call, nth, action))
        assert orphans(hsm) == []
        with hsm.open() as token:
            for key in list(token.keys()):  # whatever is still shown works
                assert key.agree(P256.base).x == key.public.x
            token.delete(token.generate(KeySpec("P-256", Use.ENCRYPT, "next")).uri)
            assert list(hsm.leftovers()) == []
            if {key.label for key in list(token.keys())} != {"bystander"}:
                token.delete(token.info.uri.with_attribute("object", SPEC.label))
            assert token.key(bystander).agree(P256.base)
        if not killed:
            break
    assert 1 < nth < MANY - 1


@pytest.mark.parametrize("moment", ["save", "remove"])
@pytest.mark.parametrize("doing", ["generate", "delete"])
def test_killed_between_the_token_and_the_record(hsm: Hsm, doing: str, moment: str) -> None:
    """The calls are done, the record is not: as the disk was at that moment."""
    token = hsm.open()
    if doing == "delete":
        token.generate(SPEC)
        hsm.close()
    child = f"""
import os, signal
from mesh_hsm_pkcs11.records import Records, Stage
real = Records.{moment}
def {moment}(self, record):
    if record.stage is not Stage.MAKING or {moment!r} == "remove":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, record)
Records.{moment} = {moment}
{SCRIPT}"""
    done = subprocess.run(
        [sys.executable, "-c", child, str(hsm.records), hsm.rig.uri, doing],
        input=f"{hsm.rig.pin}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    removes = (doing, moment) == ("generate", "remove")  # nothing to remove where all goes well
    assert done.returncode == (0 if removes else -signal.SIGKILL), done.stderr
    assert orphans(hsm) == []
    with hsm.open() as again:
        again.delete(again.generate(KeySpec("P-256", Use.ENCRYPT, "next")).uri)


def test_a_deletion_counts_whenever_the_key_was_made(hsm: Hsm) -> None:
    """A record from before the last boot may be a copy; that the key is to go was said just now."""
    token = hsm.open()
    token.generate(SPEC)
    hsm.close()
    (path,) = [path for path in hsm.records.rglob("*.key.json") if _read(path).label == SPEC.label]
    path.write_text(path.read_text().replace(this_boot(), "before"))
    assert run(hsm, "delete", Rule("C_DestroyObject", 1, Action.KILL)) == signal.SIGKILL
    with hsm.open() as again:
        again.delete(again.generate(KeySpec("P-256", Use.ENCRYPT, "next")).uri)
        assert list(again.keys()) == []
        assert list(hsm.leftovers()) == []
