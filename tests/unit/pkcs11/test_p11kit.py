"""What is registered with p11-kit, read from trees of files and by p11-kit itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesh_hsm.errors import FormatError, StorageError
from mesh_hsm_pkcs11.p11kit import Layout, Registered, registered

NOBODY = 65534


class Tree:
    """p11-kit's folders below one of ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(
            system_config=root / "etc/pkcs11.conf",
            user_config=root / "home/pkcs11.conf",
            package_modules=root / "share",
            system_modules=root / "etc/modules",
            user_modules=root / "home/modules",
            library_dirs=(root / "lib-a", root / "lib-b"),
        )

    def write(self, path: str, *lines: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines))

    def names(self, program: str = "mesh-hsm") -> list[str]:
        return [module.name for module in registered(self.layout, program)]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_nothing_is_registered_where_there_is_no_p11_kit(tree: Tree) -> None:
    assert registered(tree.layout) == []


def test_a_module_file_as_packages_write_it(tree: Tree) -> None:
    tree.write("share/softhsm2.module", "# How to load it", "", "  module : /lib/libsofthsm2.so  ")
    assert registered(tree.layout) == [Registered("softhsm2", Path("/lib/libsofthsm2.so"))]


def test_values_may_hold_colons_and_lines_may_end_in_cr(tree: Tree) -> None:
    tree.write("share/a.module", "x-uri: pkcs11:token=a\r", "module: /lib/c:d.so\r")
    assert registered(tree.layout) == [Registered("a", Path("/lib/c:d.so"))]


def test_modules_come_by_priority_and_then_by_name(tree: Tree) -> None:
    for name, priority in (("b", "0"), ("d", "-1"), ("a", "7x"), ("c", "10"), ("e", "high")):
        tree.write(f"share/{name}.module", f"module: /lib/{name}.so", f"priority: {priority}")
    tree.write("share/f.module", "module: /lib/f.so")
    assert tree.names() == ["c", "a", "b", "e", "f", "d"]


def test_a_relative_module_is_looked_for_in_the_library_folders(tree: Tree) -> None:
    tree.write("lib-b/there.so")
    tree.write("share/there.module", "module: there.so")
    tree.write("share/gone.module", "module: gone.so")
    assert registered(tree.layout) == [
        Registered("gone", tree.root / "lib-a/gone.so"),
        Registered("there", tree.root / "lib-b/there.so"),
    ]


def test_the_user_goes_before_the_administrator_before_the_package(tree: Tree) -> None:
    tree.write("share/m.module", "module: /lib/package.so", "priority: 1")
    assert registered(tree.layout)[0].path == Path("/lib/package.so")
    tree.write("etc/modules/m.module", "module: /lib/system.so", "x-init-reserved: package")
    assert registered(tree.layout)[0].path == Path("/lib/system.so")
    tree.write("home/modules/m.module", "module: /lib/user.so")
    [module] = registered(tree.layout)
    assert module.path == Path("/lib/user.so")
    assert module.reserved == "package"  # key by key: what the user does not say stays


def test_an_empty_module_switches_one_off(tree: Tree) -> None:
    tree.write("share/m.module", "module: /lib/package.so")
    tree.write("home/modules/m.module", "module:")
    assert tree.names() == []


MODES = {
    "unsaid": ([], [], ["system", "user"]),
    "merge": (["merge"], [], ["system", "user"]),
    "none": (["none"], [], ["system"]),
    "none, whatever the user says": (["none"], ["only"], ["system"]),
    "only": (["only"], [], ["user"]),
    "override": (["override"], [], ["user"]),
    "the user says only": (["merge"], ["only"], ["user"]),
    "the user says none": ([], ["none"], ["system"]),
    "the user says merge": (["only"], ["merge"], ["system", "user"]),
}


@pytest.mark.parametrize("name", MODES)
def test_user_config_says_whose_files_count(tree: Tree, name: str) -> None:
    system, user, expected = MODES[name]
    tree.write("etc/modules/system.module", "module: /lib/s.so")
    tree.write("home/modules/user.module", "module: /lib/u.so")
    tree.write("etc/pkcs11.conf", *(f"user-config: {mode}" for mode in system))
    tree.write("home/pkcs11.conf", *(f"user-config: {mode}" for mode in user))
    assert tree.names() == expected


def test_a_privileged_program_reads_nothing_of_the_users(tree: Tree) -> None:
    tree.write("share/m.module", "module: /lib/m.so")
    tree.write("home/pkcs11.conf", "user-config: only")
    tree.write("home/modules/m.module", "module: /lib/evil.so")
    assert registered(replace(tree.layout, users=False)) == [Registered("m", Path("/lib/m.so"))]


PROGRAMS = {
    "enabled here": ("enable-in: ssh, mesh-hsm", True),
    "enabled here alone": ("enable-in: mesh-hsm", True),
    "enabled elsewhere": ("enable-in: ssh mesh-hsm-too", False),
    "enabled nowhere": ("enable-in:", False),
    "disabled here": ("disable-in: ssh mesh-hsm", False),
    "disabled elsewhere": ("disable-in: p11-kit-proxy,ssh", True),
    "enabling goes first": ("enable-in: mesh-hsm\ndisable-in: mesh-hsm", True),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_module_may_be_kept_from_programs(tree: Tree, name: str) -> None:
    setting, here = PROGRAMS[name]
    tree.write("share/m.module", "module: /lib/m.so", setting)
    assert tree.names() == (["m"] if here else [])


@pytest.mark.parametrize(
    "lines",
    [
        ["module: /lib/anchors.so", "trust-policy: yes"],
        ["module: p11-kit-trust.so"],
        ["module: /lib/p11-kit-proxy.so"],
        ["module: /lib/p11-kit-client.so"],
    ],
    ids=["trust policy", "p11-kit's trust", "the proxy", "the proxy's client"],
)
def test_what_holds_no_token_of_its_own_is_passed_over(tree: Tree, lines: list[str]) -> None:
    tree.write("share/m.module", *lines)
    tree.write("share/n.module", "module: /lib/n.so", "trust-policy: no", "critical: yes")
    assert tree.names() == ["n"]


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("remote: |ssh host p11-kit remote /lib/m.so", None),
        ("remote: |ssh host p11-kit remote /lib/m.so\nmodule: /lib/m.so", Path("/lib/m.so")),
    ],
    ids=["remote", "remote, with a file"],
)
def test_what_only_p11_kit_can_load_says_so(tree: Tree, setting: str, path: Path | None) -> None:
    tree.write("share/m.module", setting)
    [module] = registered(tree.layout)
    assert module.path == path
    assert module.obstacle is not None
    assert "p11-kit-proxy.so" in module.obstacle


def test_empty_parameters_are_none(tree: Tree) -> None:
    tree.write("share/m.module", "module: /lib/m.so", "x-init-reserved:")
    assert registered(tree.layout)[0].reserved is None


def test_files_with_other_names_are_no_modules(tree: Tree) -> None:
    for name in ("m.module.dpkg-old", ".m.module", "m.conf", "README", "-m.module", "m n.module"):
        tree.write(f"share/{name}", "module: /lib/m.so")
    assert tree.names() == []


MALFORMED = {
    "no colon": ("share/m.module", "module /lib/m.so", "line 2"),
    "section": ("share/m.module", "[module: a]", "line 2"),
    "unknown mode": ("etc/pkcs11.conf", "user-config: maybe", "user-config"),
    "the user's unknown mode": ("home/pkcs11.conf", "user-config: yes", "user-config"),
    "too large": ("share/m.module", "x: " + "y" * (1 << 16), "larger"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_p11_kit_refuses_is_refused_by_its_name(tree: Tree, name: str) -> None:
    file, line, said = MALFORMED[name]
    tree.write(file, "# comment", line)
    with pytest.raises(FormatError, match=said) as caught:
        registered(tree.layout)
    assert file in str(caught.value)


UNREADABLE = ["home/pkcs11.conf", "home/modules", "home/modules/m.module"]


@pytest.mark.parametrize("path", UNREADABLE)
def test_what_cannot_be_read_is_passed_over_if_it_is_the_users(tree: Tree, path: str) -> None:
    tree.write("share/n.module", "module: /lib/n.so")
    loop = tree.root / path
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    assert tree.names() == ["n"]


@pytest.mark.parametrize("path", ["etc/pkcs11.conf", "etc/modules", "share/m.module"])
def test_what_cannot_be_read_is_an_error_if_it_is_the_systems(tree: Tree, path: str) -> None:
    loop = tree.root / path
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    with pytest.raises(StorageError, match=path):
        tree.names()


def test_a_folder_is_no_module_file(tree: Tree) -> None:
    (tree.root / "share/m.module").mkdir(parents=True)
    assert tree.names() == []


def test_octets_that_are_not_utf_8_are_a_path_like_any_other(tree: Tree) -> None:
    tree.write("share/m.module")
    (tree.root / "share/m.module").write_bytes(b"module: /lib/\xff.so")
    [module] = registered(tree.layout)
    assert os.fsencode(module.path or "") == b"/lib/\xff.so"


def test_the_users_folder_is_where_xdg_says() -> None:
    at = {"HOME": "/home/me"}
    assert Layout.of_this_machine(at).user_modules == Path("/home/me/.config/pkcs11/modules")
    at["XDG_CONFIG_HOME"] = "relative"
    assert Layout.of_this_machine(at).user_modules == Path("/home/me/.config/pkcs11/modules")
    at["XDG_CONFIG_HOME"] = "/cfg"
    assert Layout.of_this_machine(at).user_config == Path("/cfg/pkcs11/pkcs11.conf")


IDENTITIES = {  # user, effective user, group, effective group; does the user's folder count?
    "a user": ((1000, 1000, 100, 100), True),
    "root": ((0, 0, 0, 0), False),
    "setuid root": ((1000, 0, 100, 100), False),
    "setuid": ((1000, 1001, 100, 100), False),
    "setgid": ((1000, 1000, 100, 101), False),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_users_files_count_for_the_user_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    numbers, counts = IDENTITIES[name]
    for call, number in zip(("getuid", "geteuid", "getgid", "getegid"), numbers, strict=True):
        monkeypatch.setattr(os, call, lambda number=number: number)
    assert Layout.of_this_machine({}).users is counts
    assert not Layout.of_this_machine({"P11_KIT_NO_USER_CONFIG": "1"}).users


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may read, too: p11-kit reads no user's files for root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_p11_kit_itself_sees_the_same(open_folder: Path) -> None:
    """The order and the selection that p11-kit makes of a user's tree of real modules."""
    tool = shutil.which("p11-kit")
    places = Layout.of_this_machine().library_dirs
    module = next((p for d in places if (p := d / "p11-kit-trust.so").exists()), None)
    if not tool or not module:
        pytest.skip("p11-kit is not installed")
    tree = Tree(open_folder)
    files = {
        "aa": ["priority: 1"],
        "bb": ["priority: 2"],
        "cc": ["enable-in: another, p11-kit"],
        "dd": ["enable-in: another"],
        "ee": ["disable-in: p11-kit"],
        "ff": ["disable-in: another", "", "# comment", "  x-said :  y: z "],
        "Gg": ["priority: 1"],
    }
    user = {"XDG_CONFIG_HOME": str(open_folder), "PATH": os.defpath}
    for name, lines in files.items():
        shutil.copy(module, open_folder / f"{name}.so")  # p11-kit lists one file once
        text = [f"module: {open_folder / name}.so", *lines]
        tree.write(f"pkcs11/modules/{name}.module", *text)
    tree.write("pkcs11/modules/hh.module.dpkg-old", f"module: {module}")
    tree.write("pkcs11/pkcs11.conf", "user-config: only")
    layout = replace(Layout.of_this_machine(user), users=True)
    ours = [(m.name, str(m.path)) for m in registered(layout, "p11-kit")]
    done = subprocess.run(
        [tool, "list-modules"],
        env=user,
        user=NOBODY if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ours == re.findall(r"^(\w+): (/.*)$", done.stdout, re.MULTILINE)
    assert len(ours) == 5
