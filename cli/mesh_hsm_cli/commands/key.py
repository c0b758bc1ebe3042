"""``mesh-hsm key``: keys on your devices, and who holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import ConflictError, FormatError, UnsupportedError
from mesh_hsm_cli import terminal
from mesh_hsm_cli.custody_view import statement_lines
from mesh_hsm_cli.find import all_keys, find_key, find_token
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, table
from mesh_hsm_cli.policy_options import policy_options
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.custody import PinPolicy, TouchPolicy
    from mesh_hsm.provider import DeviceKey

command = noun("Keys on your devices, and who holds them.")


@verb(command, "list", example="mesh-hsm key list")
@click.pass_obj
def list_keys(session: Session) -> None:
    """List every key on every token that answers, without asking for a PIN."""
    with all_keys(session) as keys:
        found = [describe(key) for _, key in keys]
    rows = [
        [k["label"], k["use"], k["algorithm"], k["custody"]["custody"], k["udf"], k["uri"]]
        for k in found
    ]
    session.output.result(
        {"keys": found},
        table(["LABEL", "USE", "ALGORITHM", "CUSTODY", "UDF", "URI"], rows, "there are no keys"),
    )


@verb(command, "show", example="mesh-hsm key show laptop-encrypt")
@click.argument("key", metavar="KEY")
@secret_options("pin", "passphrase")
@click.pass_obj
def show(session: Session, key: str) -> None:
    """Show one key and its custody. KEY is a URI, the beginning of a UDF, or a label.

    Some devices say more of a key to whoever has its PIN.
    """
    with find_key(session, key) as (_, found):
        shown = describe(found)
    session.output.result({"key": shown}, lines(shown))


@verb(
    command,
    "generate",
    example="mesh-hsm key generate --token tpm2: --use encrypt --algorithm P-384 --label archive",
)
@click.option("--token", required=True, help="The token's URI, as token list shows it, or label.")
@click.option("--use", required=True, type=click.Choice(["sign", "encrypt", "authenticate"]))
@click.option("--algorithm", help="Curve, such as P-384. Default: the token's strongest.")
@click.option("--label", required=True, help="The key's name, unique on its token.")
@click.option("--no-pin", is_flag=True, help="Whoever has the device may use the key.")
@click.option("--pcrs", default="", help="PCRs that must not change, such as 0,7.")
@click.option("--persistent", is_flag=True, help="Keep the key inside the device, without a blob.")
@click.option("--allow-exportable", is_flag=True, help="Make even a key that can leave the device.")
@click.option(
    "--allow-factory-secrets", is_flag=True, help="Even where everybody knows the device's PIN."
)
@policy_options("once", "none")
@secret_options("pin", "passphrase", "owner-auth", "management-key")
@click.pass_obj
def generate(
    session: Session,
    token: str,
    use: str,
    algorithm: str | None,
    label: str,
    no_pin: bool,
    pcrs: str,
    persistent: bool,
    allow_exportable: bool,
    allow_factory_secrets: bool,
    slot: str | None,
    pin: PinPolicy | None,
    touch: TouchPolicy | None,
) -> None:
    """Make a key inside a device. When it asks for PIN and touch never changes afterwards."""
    from mesh_hsm.custody import TouchPolicy
    from mesh_hsm.provider import KeySpec, Use
    from mesh_hsm_cli import interrupted
    from mesh_hsm_cli.choices import choose_algorithm, pin_policy, say_policy, say_what_may_leave

    if no_pin and pin is not None:
        raise click.UsageError("--no-pin and --pin-policy exclude each other")
    with session.state.writing(), session.open(find_token(session, token)) as opened:
        interrupted.refuse_label(session.state, opened, label)
        spec = KeySpec(
            algorithm=choose_algorithm(
                opened, Use(use), algorithm, allow_exportable=allow_exportable
            ),
            use=Use(use),
            label=label,
            pin=pin or pin_policy(opened, Use(use), no_pin=no_pin),
            pcrs=parse_pcrs(pcrs),
            persistent=persistent,
            allow_exportable=allow_exportable,
            touch=touch or TouchPolicy.NONE,
            slot=slot,
            allow_factory_secrets=allow_factory_secrets,
        )
        if len(opened.touches) > 1:  # a device that keeps such policies for ever
            say_policy(session, opened, spec, "key")
        made = opened.generate(spec)
        shown = describe(made)
        say_what_may_leave(session, label, shown["custody"]["custody"])
    session.output.result({"key": shown}, lines(shown))


@verb(command, "delete", example="mesh-hsm key delete archive --yes")
@click.argument("key", metavar="KEY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Delete even a key that your Mesh or device needs.")
@secret_options("pin", "passphrase", "owner-auth", "management-key")
@click.pass_obj
def delete(session: Session, key: str, yes: bool, force: bool) -> None:
    """Delete a key as far as its device can. Copies of key files cannot be recalled."""
    from mesh_hsm.udf import udf_of
    from mesh_hsm_cli.trust import needed_keys

    with session.state.writing(), find_key(session, key) as (token, found):
        purpose = None if force else needed_keys(session).get(found.public)
        if purpose:
            raise ConflictError(
                f"{found.label} is {purpose}: without it that is lost",
                hint="--force deletes it all the same",
                uri=str(found.uri),
            )
        name = f"{found.label} ({udf_of(found.public)})"
        question = f"Delete {name} from {token.info.label} for good?"
        if not (yes or terminal.confirm(question)):
            raise ConflictError("nothing was deleted", hint="--yes answers the question")
        shown = describe(found)
        token.delete(found.uri)
    session.output.result({"deleted": shown}, [f"deleted {shown['uri']}"])


@verb(command, "move", example="mesh-hsm key move archive 82")
@click.argument("key", metavar="KEY")
@click.argument("slot", metavar="SLOT")
@secret_options("pin", "management-key")
@click.pass_obj
def move(session: Session, key: str, slot: str) -> None:
    """Put KEY into another SLOT of its device. Its URI changes, its policies do not.

    Keys that your Mesh or device has on record by their slot stay there.
    """
    from mesh_hsm.provider import Moves
    from mesh_hsm_cli.records import load_device, load_mesh

    with session.state.writing(), find_key(session, key) as (token, found):
        if not isinstance(token, Moves):
            raise UnsupportedError(f"{token.info.label} has no slots to move keys to")
        mesh, device = load_mesh(session.state), load_device(session.state)
        on_record = (mesh.uris if mesh else set()).union(device.keys.values() if device else ())
        if str(found.uri) in on_record:
            raise ConflictError(
                f"{found.label} is on record in this slot, and would not be found in another",
                hint="move another key out of your way, or make one in the slot that you want",
                uri=str(found.uri),
            )
        shown = describe(token.move(found.uri, slot))
    session.output.result({"key": shown}, lines(shown))


@verb(
    command,
    "attest",
    example="mesh-hsm key attest alice-admin\n"
    "mesh-hsm key attest alice-admin --challenge FILE --out evidence",
)
@click.argument("key", metavar="KEY")
@click.option("--challenge", metavar="FILE", help="A verifier's challenge, to be answered to him.")
@click.option("--out", metavar="FILE", help="Where the evidence for that verifier is written.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@secret_options("pin")
@click.pass_obj
def attest(session: Session, key: str, challenge: str | None, out: str | None, force: bool) -> None:
    """Have a device prove KEY: that it made it, keeps it, and has it at hand.

    The evidence is verified here, or written for whoever sent a challenge. One use of the key,
    with its PIN and its touch.
    """
    from mesh_hsm_cli.attesting import answer, verify_here

    if (challenge is None) != (out is None):
        raise click.UsageError("--challenge and --out belong together")
    if challenge is not None and out is not None:
        verifier = answer(session, key, challenge, out, force=force)
        session.output.result(
            {"evidence": out, "verifier": verifier}, [f"evidence for {verifier}: {out}"]
        )
        return
    shown = verify_here(session, key)
    session.output.result({"key": shown}, lines(shown))


def describe(key: DeviceKey) -> dict[str, Any]:
    """The JSON form of a key."""
    from mesh_hsm.udf import udf_of

    return {
        "uri": str(key.uri),
        "label": key.label,
        "use": key.use,
        "algorithm": key.public.curve.name,
        "udf": udf_of(key.public),
        "custody": key.custody().to_json(),
    }


def lines(shown: dict[str, Any]) -> list[str]:
    """A key for people."""
    names = ("label", "use", "algorithm", "udf", "uri")
    head = fields([(name if name != "udf" else "UDF", str(shown[name])) for name in names])
    return head + statement_lines(shown["custody"])


def parse_pcrs(text: str) -> tuple[int, ...]:
    """``0,7`` as indices, sorted. Raises ``FormatError``."""
    try:
        indices = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError as error:
        raise FormatError("PCRs are numbers separated by commas, such as 0,7") from error
    if any(not 0 <= index <= 23 for index in indices):
        raise FormatError("PCRs are numbered 0 to 23")
    return tuple(indices)
