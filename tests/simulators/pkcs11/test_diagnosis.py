"""What doctor finds in PKCS#11 modules and tokens: every code, made to happen."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import TokenFlag

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm.provider import Finding, KeySpec, Severity, Use
from mesh_hsm.secret_source import NoSecrets, SecretRequest
from mesh_hsm.testing.softhsm import Softhsm, find_module
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import (
    Pkcs11Provider,
    loading,
    p11kit,
    slots,
    softhsm_conf,
    token_diagnosis,
)
from mesh_hsm_pkcs11.diagnosis import of_everything
from mesh_hsm_pkcs11.discovery import VARIABLE
from mesh_hsm_pkcs11.module import Module, forget_modules
from mesh_hsm_pkcs11.pin import Pin
from tests.simulators.pkcs11.interposer import Interposer, Rv

NOBODY = 65534
SIMULATED = "PKCS11021"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir(mode=0o700)
    return folder


def findings(records: Path) -> dict[str, Finding]:
    """By code; each a line, and none said twice."""
    found = list(of_everything(records))
    for one in found:
        for line in (one.problem, one.remedy):
            assert line
            assert line.isprintable(), repr(line)
    by_code = {one.code: one for one in found}
    assert len(by_code) == len(found), found
    return by_code


def only(records: Path, code: str, severity: Severity) -> Finding:
    """The one finding that there is."""
    found = findings(records)
    assert list(found) == [code], found
    assert found[code].severity is severity
    return found[code]


# -- modules -------------------------------------------------------------------------------------


def elf(path: Path, *, processor: int = 0xB7, bits: int = 64, order: str = "little") -> Path:
    """SoftHSM as it would be for another processor."""
    header = bytearray(find_module().read_bytes())
    header[4], header[5] = {32: 1, 64: 2}[bits], {"little": 1, "big": 2}[order]
    header[18:20] = processor.to_bytes(2, "big" if order == "big" else "little")
    path.write_bytes(header)
    return path


def native() -> int:
    return int.from_bytes(Path("/proc/self/exe").read_bytes()[18:20], "little")


def missing(folder: Path) -> Path:
    return folder / "none" / "libhsm.so"


def text(folder: Path) -> Path:
    path = folder / "libhsm.so"
    path.write_text("/* GNU ld script */\nGROUP ( libhsm.so.2 )\n")
    return path


def a_folder(folder: Path) -> Path:
    return folder


def a_pipe(folder: Path) -> Path:
    path = folder / "libhsm.so"
    os.mkfifo(path)
    return path


def a_loop(folder: Path) -> Path:
    path = folder / "libhsm.so"
    path.symlink_to(path)
    return path


def compiled(folder: Path, name: str, *options: str) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("a C compiler is not installed")
    path = folder / name
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(path), "-", *options],
        input=b"int unrelated(void) { return 0; }",
        check=True,
    )
    return path


def another_library(folder: Path) -> Path:
    return compiled(folder, "libhsm.so")


def without_what_it_needs(folder: Path) -> Path:
    needed = compiled(folder, "libneeded-by-hsm.so")
    options = ["-Wl,--no-as-needed", f"-L{folder}", "-lneeded-by-hsm"]
    made = compiled(folder, "libhsm.so", *options)
    needed.unlink()
    return made


def cut_short(folder: Path) -> Path:
    path = folder / "libhsm.so"
    path.write_bytes(find_module().read_bytes()[:40])
    return path


def of_another_processor(folder: Path) -> Path:
    return elf(folder / "libhsm.so", processor=0x16 if native() == 0xB7 else 0xB7)


def of_another_width(folder: Path) -> Path:
    return elf(folder / "libhsm.so", processor=native(), bits=32)


def of_another_byte_order(folder: Path) -> Path:
    return elf(folder / "libhsm.so", processor=native(), order="big")


MODULES: list[tuple[Callable[[Path], Path], str, str, str]] = [
    (missing, "PKCS11003", "there is no PKCS #11 module", "install it"),
    (a_loop, "PKCS11003", "cannot be read", "ls -lL"),
    (of_another_processor, "PKCS11004", "(64-bit, little-endian), and this Python", "for"),
    (of_another_width, "PKCS11004", "(32-bit, little-endian), and this Python", "for"),
    (of_another_byte_order, "PKCS11004", "(64-bit, big-endian), and this Python", "for"),
    (text, "PKCS11005", "no library of this system", "manual"),
    (another_library, "PKCS11005", "C_GetFunctionList", "manual"),
    (without_what_it_needs, "PKCS11006", "libneeded-by-hsm.so", "has libneeded-by-hsm.so"),
    (cut_short, "PKCS11006", "does not load", "reinstall"),
]
UNUSABLE = pytest.mark.parametrize(
    ("make", "code", "said", "remedy"), MODULES, ids=[make.__name__ for make, *_ in MODULES]
)


@UNUSABLE
def test_a_module_that_the_user_named_and_that_does_not_load(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path], code: str, said: str, remedy: str,
) -> None:  # fmt: skip
    module = make(tmp_path)
    monkeypatch.setenv(VARIABLE, str(module))
    found = only(records, code, Severity.ERROR)
    assert str(module) in found.problem
    assert said in found.problem
    assert remedy in found.remedy
    with pytest.raises(ProviderUnavailableError) as caught:  # the same words everywhere
        Pkcs11Provider(records).tokens()
    assert (str(caught.value), caught.value.hint) == (found.problem, found.remedy)


def test_both_architectures_are_named(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(elf(tmp_path / "libhsm.so", processor=0xF3)))
    problem = only(records, "PKCS11004", Severity.ERROR).problem
    names = {0x3E: "x86-64", 0xB7: "AArch64"}
    assert "is made for RISC-V (64-bit, little-endian)" in problem
    assert f"this Python is {names[native()]} (64-bit, little-endian)" in problem


def test_where_programs_are_no_elf_files_the_loader_has_the_word(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_PROGRAM", tmp_path / "no proc")
    monkeypatch.setenv(VARIABLE, str(of_another_processor(tmp_path)))
    assert "the system does not load" in only(records, "PKCS11006", Severity.ERROR).problem


@pytest.mark.parametrize("make", [a_folder, a_pipe])
def test_what_is_no_file_is_not_waited_for(
    registered: Callable[..., None], records: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    registered("hsm", f"module: {make(tmp_path)}")
    assert "it is no file" in only(records, "PKCS11005", Severity.NOTE).problem


def test_a_module_that_gives_no_functions(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spies = sorted(Path("/usr/lib").glob("*/pkcs11/pkcs11-spy.so"))
    if not spies:
        pytest.skip("pkcs11-spy.so (Debian: opensc-pkcs11) is not installed")
    monkeypatch.delenv("PKCS11SPY", raising=False)
    monkeypatch.setenv(VARIABLE, str(spies[0]))
    assert "does not start" in only(records, "PKCS11007", Severity.ERROR).problem


def test_no_reader(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = sorted(Path("/usr/lib").glob("*/pkcs11/opensc-pkcs11.so"))
    if not modules:
        pytest.skip("opensc-pkcs11.so is not installed")
    if Module.load(modules[0]).slots(also_empty=True):
        pytest.skip("there is a reader here")
    monkeypatch.setenv(VARIABLE, str(modules[0]))
    found = only(records, "PKCS11010", Severity.WARNING)
    assert found.problem == "no reader and no device is seen: opensc-pkcs11"


@pytest.mark.parametrize(
    ("said", "severity"),
    [("[modules]", Severity.ERROR), ('modules = ["libhsm.so"]', Severity.ERROR)],
)
def test_a_configuration_that_says_nothing(
    records: Path, monkeypatch: pytest.MonkeyPatch, said: str, severity: Severity
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (records / "modules.toml").write_text(said)
    (records / "modules.toml").chmod(0o600)
    assert "modules.toml" in only(records, "PKCS11001", severity).problem


def test_a_configuration_that_others_may_write(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (records / "modules.toml").write_text("modules = []")
    (records / "modules.toml").chmod(0o666)
    assert "chmod" in only(records, "PKCS11002", Severity.ERROR).remedy


def test_a_module_that_everybody_may_write(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = text(tmp_path)
    module.chmod(0o666)
    monkeypatch.setenv(VARIABLE, str(module))
    assert str(module) in only(records, "PKCS11002", Severity.ERROR).problem


# -- p11-kit's modules: nobody here chose them ---------------------------------------------------


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers a module with a p11-kit that has no other."""
    folder = tmp_path / "registered"
    folder.mkdir()
    none = tmp_path / "nothing"
    layout = p11kit.Layout(none, none, folder, none, none, (folder,))
    monkeypatch.setattr(p11kit.Layout, "of_this_machine", lambda _: layout)
    monkeypatch.delenv(VARIABLE, raising=False)

    def register(name: str, *lines: str) -> None:
        (folder / f"{name}.module").write_text("\n".join(lines))

    return register


def test_nothing_is_known(registered: Callable[..., None], records: Path) -> None:
    assert VARIABLE in only(records, "PKCS11009", Severity.NOTE).remedy


def test_no_module_at_all_is_what_the_user_wants(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert findings(records) == {}
    monkeypatch.delenv(VARIABLE)
    (records / "modules.toml").write_text("modules = []")
    (records / "modules.toml").chmod(0o600)
    assert findings(records) == {}


@UNUSABLE
def test_a_registered_module_that_does_not_load_stops_nothing(
    registered: Callable[..., None], records: Path, tmp_path: Path,
    make: Callable[[Path], Path], code: str, said: str, remedy: str,
) -> None:  # fmt: skip
    registered("hsm", f"module: {make(tmp_path)}")
    found = only(records, code, Severity.NOTE)
    assert said in found.problem
    assert remedy in found.remedy


def test_a_registered_module_that_everybody_may_write(
    registered: Callable[..., None], records: Path, tmp_path: Path
) -> None:
    module = text(tmp_path)
    module.chmod(0o666)
    registered("hsm", f"module: {module}")
    found = only(records, "PKCS11002", Severity.WARNING)
    assert found.problem.startswith("hsm is not used: everybody may write")
    assert "chmod o-w" in found.remedy


def test_a_module_in_a_process_of_its_own(
    registered: Callable[..., None], records: Path, tmp_path: Path
) -> None:
    registered("hsm", f"module: {text(tmp_path)}", "remote: |p11-kit remote libhsm.so")
    found = only(records, "PKCS11008", Severity.NOTE)
    assert found.problem == "hsm is not used: it runs in a process of its own"
    assert "p11-kit-proxy.so" in found.remedy


def test_a_file_that_p11_kit_refuses_too(registered: Callable[..., None], records: Path) -> None:
    registered("hsm", "module")
    assert "hsm.module, line 1" in only(records, "PKCS11001", Severity.WARNING).problem


def test_a_softhsm_that_nobody_uses(
    registered: Callable[..., None], records: Path, softhsm_token: Softhsm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    softhsm_token.clear()
    forget_modules()
    monkeypatch.delenv(VARIABLE)
    registered("softhsm2", f"module: {softhsm_token.module}")
    found = only(records, "PKCS11014", Severity.NOTE)
    assert found.problem.startswith("the token in slot 0 (SoftHSM project SoftHSM v2)")
    assert "mesh-hsm token init 'pkcs11:" in found.remedy


# -- SoftHSM's own set-up ------------------------------------------------------------------------


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user to whom a folder of mode 0 is closed: everybody but root is one."""
    if os.getuid():
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def no_configuration(rig: Softhsm) -> tuple[str, str]:
    rig.conf.unlink()
    return f"its configuration {rig.conf} is not there", "directories.tokendir"


def a_closed_configuration(rig: Softhsm) -> tuple[str, str]:
    rig.conf.chmod(0)
    return f"its configuration {rig.conf} is closed to you", "join the group"


def no_token_folder(rig: Softhsm) -> tuple[str, str]:
    shutil.rmtree(rig.folder / "tokens")
    return f"its token folder {rig.folder}/tokens, named in {rig.conf}, is not there", "mkdir"


def a_closed_token_folder(rig: Softhsm) -> tuple[str, str]:
    (rig.folder / "tokens").chmod(0)
    return f"its token folder {rig.folder}/tokens, named in {rig.conf}, is closed", "SOFTHSM2_CONF"


def a_file_for_a_token_folder(rig: Softhsm) -> tuple[str, str]:
    rig.conf.write_text(f"directories.tokendir = {rig.conf}  # a slip\n")
    return f"its token folder {rig.conf}, named in {rig.conf}, cannot be read", "SOFTHSM2_CONF"


def a_level_that_is_none(rig: Softhsm) -> tuple[str, str]:
    with rig.conf.open("a") as file:
        file.write("log.level = SHOUTING\n")
    return "does not start (CKR 0x5)", "its configuration"


SET_UPS = [
    no_configuration,
    a_closed_configuration,
    no_token_folder,
    a_closed_token_folder,
    a_file_for_a_token_folder,
    a_level_that_is_none,
]


@pytest.mark.parametrize("spoil", SET_UPS)
def test_a_softhsm_that_does_not_start(
    softhsm_token: Softhsm, records: Path, spoil: Callable[[Softhsm], tuple[str, str]]
) -> None:
    softhsm_token.folder.chmod(0o711)
    softhsm_token.conf.chmod(0o644)
    (softhsm_token.folder / "tokens").chmod(0o755)
    problem, remedy = spoil(softhsm_token)
    forget_modules()
    with as_nobody():
        found = list(of_everything(Path("/nowhere")))
    (softhsm_token.folder / "tokens").mkdir(exist_ok=True)
    assert [(one.code, one.severity) for one in found] == [("PKCS11007", Severity.ERROR)]
    assert problem in found[0].problem
    assert remedy in found[0].remedy


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's, on a machine where SoftHSM has no configuration."""
    monkeypatch.setattr(softhsm_conf, "_SYSTEM", (tmp_path / "none",))
    (tmp_path / ".config" / "softhsm2").mkdir(parents=True)
    return tmp_path


def configuration(folder: Path, said: str) -> Path:
    path = folder / "softhsm2.conf"
    path.write_text(f"{said}\n")
    return path


def test_which_configuration_softhsm_reads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"HOME": str(home)}

    def said() -> str:
        found = softhsm_conf.trouble(environment)
        assert found is not None
        return found[0]

    assert said() == "it has no configuration"
    system = configuration(home, "directories.tokendir = /nowhere/system")
    monkeypatch.setattr(softhsm_conf, "_SYSTEM", (str(home / "none"), str(system)))
    assert "/nowhere/system" in said()
    own = configuration(home / ".config" / "softhsm2", "directories.tokendir = /nowhere/own")
    assert f"/nowhere/own, named in {own}," in said()
    environment["SOFTHSM2_CONF"] = str(configuration(home / ".config", "log.level = ERROR"))
    assert softhsm_conf.trouble(environment) is None
    assert softhsm_conf.closed_tokens(environment) == []


def test_a_configuration_that_this_user_may_not_look_for(
    softhsm_token: Softhsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softhsm_conf, "_SYSTEM", (str(softhsm_token.conf),))
    softhsm_token.folder.chmod(0)
    with as_nobody():
        found = softhsm_conf.trouble({"HOME": "/nowhere"})
        assert softhsm_conf.closed_tokens({"HOME": "/nowhere"}) == []
    softhsm_token.folder.chmod(0o700)
    assert found is not None
    assert found[0] == f"its configuration {softhsm_token.conf} is closed to you"


def test_tokens_that_are_closed_to_this_user(softhsm_token: Softhsm) -> None:
    softhsm_token.folder.chmod(0o711)
    softhsm_token.conf.chmod(0o644)
    (softhsm_token.folder / "tokens").chmod(0o755)
    [token] = (softhsm_token.folder / "tokens").iterdir()
    token.chmod(0)
    forget_modules()
    with as_nobody():
        found = {one.code: one for one in of_everything(Path("/nowhere"))}
    assert set(found) == {"PKCS11013", "PKCS11014"}
    assert str(token) in found["PKCS11013"].problem
    token.chmod(stat.S_IRWXU)


# -- tokens --------------------------------------------------------------------------------------


def test_a_healthy_token(softhsm_token: Softhsm, records: Path) -> None:
    assert "the token test is a simulator" in only(records, SIMULATED, Severity.NOTE).problem
    assert list(records.iterdir()) == []


@pytest.fixture
def before(
    softhsm_token: Softhsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Interposer]:
    """A module that misbehaves on demand, before the token of SoftHSM."""
    with Interposer(softhsm_token.module, tmp_path / "interposer") as module:
        monkeypatch.setenv(VARIABLE, str(module.path))
        forget_modules()
        yield module


def test_a_token_that_two_modules_reach_is_told_of_once(
    before: Interposer, softhsm_token: Softhsm, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{softhsm_token.module}{os.pathsep}{before.path}")
    assert len(Pkcs11Provider(records).tokens()) > len(slots.present(Module.load(before.path)))
    only(records, SIMULATED, Severity.NOTE)


def test_every_slot_is_empty(before: Interposer, records: Path) -> None:
    for found in slots.present(Module.load(before.path)):
        before.remove(found.facts.slot_id)
    assert "every slot is empty" in only(records, "PKCS11011", Severity.WARNING).problem


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("C_GetTokenInfo", "does not describe itself (DeviceError)"),
        ("C_GetSlotList", "cannot be looked at: the token refused to list its slots"),
        ("C_OpenSession", "cannot be looked at: the token refused to list its keys"),
        ("C_FindObjectsInit", "cannot be looked at: the token refused to list its keys"),
    ],
)
def test_a_module_that_fails_is_a_finding(
    before: Interposer, records: Path, function: str, said: str
) -> None:
    Module.load(before.path)
    before.always(function, Rv.DEVICE_ERROR)
    found = [one for one in of_everything(records) if one.code == "PKCS11012"]
    assert found
    assert all(said in one.problem for one in found)
    assert {one.severity for one in found} == {Severity.WARNING}


def test_an_answer_that_is_none_is_a_finding(
    softhsm_token: Softhsm, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def present(_: Module) -> list[slots.Found]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(slots, "present", present)
    assert "UnicodeDecodeError" in only(records, "PKCS11012", Severity.WARNING).problem


TRIES = [
    ({"tries": 3, "tries_used": 1}, "PKCS11017", Severity.NOTE, "a wrong PIN"),
    (
        {"tries": 3, "tries_used": 2},
        "PKCS11017",
        Severity.WARNING,
        "one try is left before the PIN",
    ),
    ({"tries": 3, "tries_used": 3}, "PKCS11016", Severity.ERROR, "the PIN of the token test is"),
    ({"so_tries": 3, "tries_used": 1}, "PKCS11017", Severity.NOTE, "wrong security officer's PIN"),
    ({"so_tries": 3, "tries_used": 2}, "PKCS11017", Severity.WARNING, "security officer's PIN of"),
    ({"so_tries": 3, "tries_used": 3}, "PKCS11019", Severity.WARNING, "officer's PIN of the token"),
    ({"pin_to_be_changed": 1}, "PKCS11018", Severity.WARNING, "that its maker or its security"),
]


@pytest.mark.parametrize(("state", "code", "severity", "said"), TRIES)
def test_the_state_of_the_pins(
    before: Interposer, records: Path,
    state: dict[str, int], code: str, severity: Severity, said: str,
) -> None:  # fmt: skip
    before.set(**state)
    with before.counted() as calls:
        found = findings(records)
    assert set(found) == {code, SIMULATED}
    assert found[code].severity is severity
    assert said in found[code].problem
    assert "C_Login" not in calls


@pytest.mark.parametrize(
    ("flag", "code", "severity", "said"),
    [
        (TokenFlag.SO_PIN_TO_BE_CHANGED, "PKCS11020", Severity.WARNING, "that its maker gave it"),
        (TokenFlag.WRITE_PROTECTED, "PKCS11022", Severity.NOTE, "write-protected"),
        (TokenFlag.ERROR_STATE, "PKCS11012", Severity.ERROR, "failed a test of itself"),
    ],
)
def test_flags_that_no_simulator_sets(
    softhsm_token: Softhsm, records: Path,
    flag: TokenFlag, code: str, severity: Severity, said: str,
) -> None:  # fmt: skip
    token = token_of(softhsm_token)
    uri = Uri.parse(softhsm_token.uri)
    changed = replace(token, flags=token.flags | flag)
    found = {one.code: one for one in token_diagnosis.of_token(changed, uri, records, beside=True)}
    assert set(found) == {code, SIMULATED}
    assert found[code].severity is severity
    assert said in found[code].problem


def token_of(rig: Softhsm) -> slots.Found:
    present = slots.present(Module.load(rig.module))
    return next(one for one in present if one.facts.label == rig.label)


def test_hardware_that_is_not_initialised_is_named_beside_a_token(
    softhsm_token: Softhsm, records: Path
) -> None:
    present = slots.present(Module.load(softhsm_token.module))
    empty = next(one for one in present if not one.facts.initialised)
    uri = Uri.parse("pkcs11:slot-id=7")
    assert list(token_diagnosis.of_token(empty, uri, records, beside=True)) == []
    real = replace(empty, hardware=slots.Hardware.CLAIMED)
    for beside in (True, False):
        found = list(token_diagnosis.of_token(real, uri, records, beside=beside))
        assert [(one.code, one.severity) for one in found] == [("PKCS11014", Severity.NOTE)]
    assert "mesh-hsm token init pkcs11:slot-id=7 --label NAME" in found[0].remedy


def test_a_token_without_a_user_pin(softhsm_token: Softhsm, records: Path) -> None:
    module = Module.load(softhsm_token.module)
    empty = next(one for one in slots.present(module) if not one.facts.initialised)
    module.cryptoki.init_token(empty.facts.slot_id, Pin(b"2718-2818"), "näxt\n one")
    found = [one for one in of_everything(records) if one.code != SIMULATED]
    assert [one.code for one in found] == ["PKCS11015"]
    assert "näxt\N{REPLACEMENT CHARACTER} one has no user PIN" in found[0].problem
    assert "mesh-hsm pin reset 'pkcs11:token=n%C3%A4xt%0A%20one;" in found[0].remedy


# -- keys ----------------------------------------------------------------------------------------


class Answers(NoSecrets):
    """The PIN, to whatever is asked."""

    def __init__(self, pin: str) -> None:
        self._pin = pin.encode()

    def secret(self, request: SecretRequest) -> bytes:
        return self._pin


def make_key(rig: Softhsm, records: Path, label: str) -> Uri:
    with Pkcs11Provider(records).open(Uri.parse(rig.uri), Answers(rig.pin)) as token:
        return token.generate(KeySpec("P-256", Use.SIGN, label)).uri


def test_a_key_of_ours_is_no_finding(softhsm_token: Softhsm, records: Path) -> None:
    make_key(softhsm_token, records, "build")
    assert set(findings(records)) == {SIMULATED}


def test_keys_that_were_made_on_another_machine(
    softhsm_token: Softhsm, records: Path, tmp_path: Path
) -> None:
    for number in range(10):
        make_key(softhsm_token, tmp_path / "elsewhere", f"build {number}")
    found = findings(records)
    assert set(found) == {SIMULATED, "PKCS11024"}
    assert found["PKCS11024"].severity is Severity.NOTE
    assert found["PKCS11024"].problem.endswith("build 6, build 7 and 2 more")


def test_keys_of_others_are_not_ours_to_speak_of(softhsm_token: Softhsm, records: Path) -> None:
    token = token_of(softhsm_token).slot.get_token()
    with token.open(rw=True, user_pin=softhsm_token.pin) as session:
        session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")},
            local=True,
        ).generate_keypair(store=True, label="theirs", id=b"mesh-hsm")
    assert set(findings(records)) == {SIMULATED}


def test_a_key_that_is_gone(softhsm_token: Softhsm, records: Path, tmp_path: Path) -> None:
    uri = make_key(softhsm_token, records, "build")
    other = Pkcs11Provider(tmp_path / "elsewhere")
    with other.open(Uri.parse(softhsm_token.uri), Answers(softhsm_token.pin)) as token:
        token.delete(uri)
    found = findings(records)
    assert set(found) == {SIMULATED, "PKCS11026"}
    assert found["PKCS11026"].severity is Severity.WARNING
    assert "does not show the key build any more" in found["PKCS11026"].problem


@pytest.mark.parametrize("beside", [False, True], ids=["instead", "beside"])
def test_another_public_key_than_was_made(
    softhsm_token: Softhsm, records: Path, beside: bool
) -> None:
    """Which anybody can put there: it takes no PIN."""
    make_key(softhsm_token, records, "build")
    make_key(softhsm_token, records, "untouched")
    attribute = pkcs11.Attribute
    with token_of(softhsm_token).slot.get_token().open(rw=True) as session:
        keys = {
            key.label: key
            for key in session.get_objects({attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY})
        }
        false = {
            attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
            attribute.KEY_TYPE: pkcs11.KeyType.EC,
            attribute.TOKEN: True,
            attribute.LABEL: "build",
            attribute.ID: keys["build"].id,
            attribute.EC_PARAMS: keys["build"][attribute.EC_PARAMS],
            attribute.EC_POINT: keys["untouched"][attribute.EC_POINT],
        }
        if not beside:
            keys["build"].destroy()
        session.create_object(false)
    found = findings(records)
    assert set(found) == {SIMULATED, "PKCS11027"}
    assert found["PKCS11027"].severity is Severity.WARNING
    assert "shows another public key for build" in found["PKCS11027"].problem


def test_a_private_key_without_its_public_half(softhsm_token: Softhsm, records: Path) -> None:
    token = token_of(softhsm_token).slot.get_token()
    identifier = b"mesh-hsm\x01s" + bytes(10)
    with token.open(rw=True, user_pin=softhsm_token.pin) as session:
        public, _ = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")},
            local=True,
        ).generate_keypair(
            store=True,
            label="half",
            id=identifier,
            private_template={pkcs11.Attribute.PRIVATE: False},
        )
        public.destroy()
    found = findings(records)
    assert set(found) == {SIMULATED, "PKCS11025"}
    assert found["PKCS11025"].severity is Severity.WARNING
    assert "the private key half without its public half" in found["PKCS11025"].problem
    command = shlex.split(found["PKCS11025"].remedy.partition("to delete it: ")[2])
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([*command, "--pin", softhsm_token.pin], check=True, capture_output=True)
    forget_modules()
    assert set(findings(records)) == {SIMULATED}


@pytest.mark.parametrize(("stage", "use"), [("making", "sign"), ("deleting", "encrypt")])
def test_a_key_that_was_interrupted(
    softhsm_token: Softhsm, records: Path, stage: str, use: str
) -> None:
    make_key(softhsm_token, records, "build")
    [record] = records.rglob("*.key.json")
    text = record.read_text().replace('"made"', f'"{stage}"')
    if use == "encrypt":
        text = text.replace('"use": "sign"', '"use": null')  # a key to seal under
    record.write_text(text)
    found = findings(records)
    assert set(found) == {SIMULATED, "PKCS11023"}
    assert found["PKCS11023"].severity is Severity.WARNING
    assert f"{stage} the key build on the token test was interrupted" in found["PKCS11023"].problem
    assert f"--use {use} --label NAME" in found["PKCS11023"].remedy


def test_a_damaged_record(softhsm_token: Softhsm, records: Path) -> None:
    make_key(softhsm_token, records, "build")
    [record] = records.rglob("*.key.json")
    record.write_text("{}")
    found = findings(records)
    assert set(found) == {SIMULATED, "STATE003"}
    assert found["STATE003"].severity is Severity.ERROR
    assert str(record) in found["STATE003"].problem


def test_a_token_that_is_not_plugged_in_is_not_missed(
    softhsm_token: Softhsm, records: Path
) -> None:
    make_key(softhsm_token, records, "build")
    softhsm_token.clear()
    forget_modules()
    assert set(findings(records)) == {"PKCS11014"}
