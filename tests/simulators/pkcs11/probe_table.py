"""Makes docs/reference/pkcs11-modules.md's tables: each module asked by the provider itself.

Run it to see them, or with ``--write`` to put them into the page. A module has a process and a
throw-away token of its own; one that is not installed is left out, and the page keeps what it says
of it. Everything shown was found by making, trying and importing keys: nothing is typed by hand.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a program it is started by its path
    sys.path[:0] = [str(Path(__file__).parent)]

from pkcs11 import SlotFlag
from rigs import Nss, Rig, Tpm2

from mesh_hsm.curves import CURVES, Curve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import MeshHsmError, ProviderUnavailableError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider
from mesh_hsm_pkcs11.curve_forms import OIDS, PRINTABLE
from mesh_hsm_pkcs11.dialect import Dialect, Recipe
from mesh_hsm_pkcs11.records import Records
from mesh_hsm_pkcs11.token import Pkcs11Token

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/pkcs11-modules.md"
USES = {"agree": Use.ENCRYPT, "sign": Use.SIGN}
NO_SUCH_THING = {("montgomery", "sign"), ("edwards", "agree")}  # in the Mesh

Facts = dict[str, Any]


def modules() -> dict[str, Callable[[], AbstractContextManager[Softhsm | Rig]]]:
    """Every module that is tried, by what the page calls it."""
    return {"SoftHSM": Softhsm, "NSS": Nss, "tpm2-pkcs11": Tpm2}


# -- asking ----------------------------------------------------------------------------------------


def facts(name: str) -> Facts:
    """What the provider finds out about a module. ``ProviderUnavailableError``: it is not there."""
    with modules()[name]() as rig:
        environment = os.environ | rig.environment
        command = [sys.executable, __file__, "--ask"]
        if name == "NSS":  # loaded itself, and not by p11-kit's proxy
            del environment["MESH_HSM_PKCS11_MODULE"]
            if os.geteuid() == 0:  # for whom p11-kit's rule is to read no user's configuration
                command[:0] = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
        done = subprocess.run(
            command,
            input=json.dumps({"uri": rig.uri, "pin": rig.pin}),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.stderr.startswith("unshare:"):
        raise ProviderUnavailableError(f"{name} is not asked as root", hint=done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{name} cannot be asked:\n{done.stderr}")
    found: Facts = json.loads(done.stdout)
    return found


def ask(uri: str, pin: str) -> Facts:
    """The same for the token that this process sees."""
    secrets = FixedSecrets({SecretKind.PIN: pin.encode()})
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder)
        with Pkcs11Provider(records).open(Uri.parse(uri), secrets) as token:
            assert isinstance(token, Pkcs11Token)
            return _of_token(token, records)


def _of_token(token: Pkcs11Token, records: Path) -> Facts:
    dialect = Dialect.of(token._connection.sessions)
    token.capabilities()
    early = set(dialect.proved)
    log_in(token)
    offered = {(c.algorithm, p) for c in token.capabilities() for p in USES if p in c.primitive}
    late = dialect.proved - early
    rows, refused = [], {}
    for curve in CURVES.values():
        for primitive, use in USES.items():
            if (curve.family, primitive) in NO_SUCH_THING:
                continue
            subject = (curve.name, use is Use.SIGN)
            if (curve.name, primitive) not in offered:
                reason = str(token.why_not(curve.name, use))
                refused[f"{curve.name} {primitive}"] = reason.removesuffix(f" for {curve.name}")
                continue
            trial = "before login" if subject in early else "after login"
            row = {"trial": trial if subject in early | late else "none"}
            rows.append(row | _of_curve(token, records, curve, primitive))
    found = token._connection.found
    return {
        "library": f"{found.facts.library_manufacturer}, {found.facts.library_description}",
        "version": found.facts.library_version,
        "token": f"{found.facts.manufacturer} {found.facts.model}",
        "claims": bool(found.slot.flags & SlotFlag.HW_SLOT),
        "hardware": found.hardware,
        "rows": rows,
        "refused": refused,
        "left_out": sorted(attribute.name for attribute in dialect.told_without(token=True)),
        "always": _always(token),
    }


def log_in(token: Pkcs11Token) -> None:
    """Prove the PIN, as the first use of a private key would."""
    token._connection.run("be logged in to", lambda session: None)


def _of_curve(token: Pkcs11Token, records: Path, curve: Curve, primitive: str) -> Facts:
    use = USES[primitive]
    dialect = Dialect.of(token._connection.sessions)
    row: Facts = {"curve": curve.name, "primitive": primitive}
    try:
        key = token.generate(KeySpec(curve.name, use, "made"))
    except MeshHsmError as error:
        return row | {"fails": str(error)}
    row["custody"] = key.custody().custody
    token.delete(key.uri)
    row["recipe"] = _recipe(dialect.recipes[curve.name], curve.name)
    row["point"] = "DER" if dialect.der_points[curve.name] else "raw"
    if primitive == "agree":
        way = dialect.ways[curve.name]
        row["way"] = f"{'DER' if way.der else 'raw'}{', with length' if way.sized else ''}"
    if curve.family != "edwards":
        row["import"] = _imported(token, records, curve, use)
    return row


def _recipe(recipe: Recipe, name: str) -> str:
    names = {OIDS[name]: "its OID", PRINTABLE.get(name): "its name"}
    how = names.get(recipe.parameters, "GNU's OID")
    return f"{recipe.kind.name} {recipe.kind:#04x}, {recipe.mechanism:#06x}, {how}"


def _imported(token: Pkcs11Token, records: Path, curve: Curve, use: Use) -> str:
    try:
        key = token.import_scalar(KeySpec(curve.name, use, "brought"), 0x1234567, ("a test",))
    except MeshHsmError as error:
        return f"no: {error}"
    (record,) = Records(records, token._connection.found.name).all()
    token.delete(key.uri)
    return {"wrapped": "wrapped", "created": "in the clear"}[record.origin]


def _always(token: Pkcs11Token) -> str:
    try:
        key = token.generate(KeySpec("P-256", Use.SIGN, "each time", pin=PinPolicy.ALWAYS))
    except MeshHsmError as error:
        return f"refused: {error}"
    pin = key.custody().pin
    return "is made, and asks" if pin is PinPolicy.ALWAYS else f"the statement says {pin}"


# -- showing ---------------------------------------------------------------------------------------


def table(name: str, found: Facts) -> str:
    """What the page says of a module."""
    return "\n".join(_lines(name, found))


def _lines(name: str, found: Facts) -> Iterator[str]:
    claim = "set" if found["claims"] else "clear"
    left_out = ", ".join(f"`CKA_{attribute}`" for attribute in found["left_out"]) or "none"
    yield f"### {name} {found['version']}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| library | {found['library']} |"
    yield f"| token | {found['token']} |"
    yield f"| `CKF_HW_SLOT` | {claim}; the statement says `{found['hardware']}` |"
    yield f"| attributes it refuses to be told of a stored key | {left_out} |"
    yield f"| a signature key that wants its PIN each time | {found['always']} |"
    yield ""
    yield "| Key | Tried | Made by | Point | Peer's point | Class | Import |"
    yield "|---|---|---|---|---|---|---|"
    for row in found["rows"]:
        subject = f"{row['curve']} {row['primitive']}"
        if "fails" in row:
            yield f"| {subject} | {row['trial']} | fails: {row['fails']} | | | | |"
            continue
        cells = [row.get(c) or "" for c in ("recipe", "point", "way", "custody", "import")]
        cells[3] = f"`{cells[3]}`"
        yield f"| {' | '.join([subject, row['trial'], *cells])} |"
    yield ""
    if not found["refused"]:
        yield "All that the Mesh uses is offered."
    for reason in dict.fromkeys(found["refused"].values()):
        names = ", ".join(n for n, why in found["refused"].items() if why == reason)
        yield f"- not offered: {names} ({reason})"


def marks(name: str) -> tuple[str, str]:
    """The comments between which a module's tables stand in the page."""
    return f"<!-- {name}: made by the probe -->\n", f"<!-- {name}: end -->\n"


def shown(page: str, name: str) -> str:
    """What a page says of a module."""
    begin, end = marks(name)
    return page.partition(begin)[2].partition(end)[0].rstrip("\n")


def put(page: str, name: str, text: str) -> str:
    """The page with this said of a module."""
    begin, end = marks(name)
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: f"{begin}{text}\n{end}", page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Ask every module, and show or write what was found."""
    if arguments == ["--ask"]:
        print(json.dumps(ask(**json.load(sys.stdin))))
        return 0
    page = PAGE.read_text(encoding="utf-8")
    for name in modules():
        try:
            text = table(name, facts(name))
        except ProviderUnavailableError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(text, end="\n\n")
        page = put(page, name, text)
        if arguments == ["--write"]:
            PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
