"""Which modules are asked, and who may say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh_hsm.errors import AccessError, FormatError, NotFoundError, StorageError
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.discovery import Origin, Source, modules
from mesh_hsm_pkcs11.p11kit import Layout


class Machine:
    """A machine with modules in files and nobody's configuration yet."""

    def __init__(self, root: Path) -> None:
        self.records = root / "records"
        self.libraries = root / "lib"
        self.registry = root / "share"
        for folder in (self.records, self.libraries, self.registry):
            folder.mkdir(mode=0o700)
        self.environment: dict[str, str] = {}
        self.layout = Layout(
            system_config=root / "none.conf",
            user_config=root / "none.conf",
            package_modules=self.registry,
            system_modules=root / "none",
            user_modules=root / "none",
            library_dirs=(self.libraries,),
        )

    def library(self, name: str) -> Path:
        path = self.libraries / name
        path.touch(mode=0o755)
        return path

    def register(self, name: str, *lines: str) -> None:
        (self.registry / f"{name}.module").write_text("\n".join(lines))

    def configure(self, text: str) -> Path:
        file = self.records / "modules.toml"
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def found(self, uri: Uri | None = None) -> list[Source]:
        return modules(uri, self.records, environment=self.environment, layout=self.layout)

    def paths(self, uri: Uri | None = None) -> list[Path]:
        return [source.path for source in self.found(uri)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def reached_by(path: Path | str) -> Uri:
    return Uri("pkcs11", (), (("module-path", str(path)),))


def test_nobody_says_anything(machine: Machine) -> None:
    assert machine.found() == []


def test_the_first_that_says_anything_says_all(machine: Machine) -> None:
    a, b, c, d = (machine.library(f"lib{name}.so") for name in "abcd")
    machine.register("dd", f"module: {d}")
    assert machine.found() == [Source(d, Origin.P11_KIT, ("dd", "d"))]
    machine.configure(f'modules = ["{c}"]')
    assert machine.found() == [Source(c, Origin.CONFIGURATION, ("c",))]
    machine.environment["MESH_HSM_PKCS11_MODULE"] = str(b)
    assert machine.found() == [Source(b, Origin.ENVIRONMENT, ("b",))]
    assert machine.found(reached_by(a)) == [Source(a, Origin.URI, ("a",))]


def test_an_empty_answer_is_an_answer(machine: Machine) -> None:
    machine.register("m", f"module: {machine.library('m.so')}")
    machine.configure("modules = []")
    assert machine.found() == []
    machine.configure('modules = ["/lib/m.so"]')
    machine.environment["MESH_HSM_PKCS11_MODULE"] = ""
    assert machine.found() == []


def test_several_modules_in_their_order(machine: Machine) -> None:
    a, b = machine.library("a.so"), machine.library("b.so")
    machine.configure(f'modules = [\n  "{b}",  # first\n  "{a}",\n]')
    assert machine.paths() == [b, a]
    machine.environment["MESH_HSM_PKCS11_MODULE"] = os.pathsep.join(["", str(a), str(b), ""])
    assert machine.paths() == [a, b]


def test_one_file_is_asked_once_under_all_its_names(machine: Machine) -> None:
    file = machine.library("libsofthsm2.so.2.6")
    link = machine.libraries / "other.so"
    link.symlink_to(file)
    machine.register("aa", f"module: {link}")
    machine.register("bb", f"module: {file}")
    assert machine.found() == [Source(link, Origin.P11_KIT, ("aa", "other", "bb", "softhsm2"))]
    assert machine.found()[0].name == "aa"


def test_missing_files_stay_in_the_list(machine: Machine) -> None:
    missing = machine.libraries / "gone/m.so"
    machine.register("m", f"module: {missing}")
    assert machine.paths() == [missing]
    machine.environment["MESH_HSM_PKCS11_MODULE"] = str(missing)
    assert machine.paths() == [missing]
    assert machine.paths(reached_by(missing)) == [missing]


def test_a_loop_of_links_is_a_missing_file(machine: Machine) -> None:
    loop = machine.libraries / "m.so"
    loop.symlink_to(loop)
    assert machine.paths(reached_by(loop)) == [loop]


@pytest.mark.parametrize(
    "name", ["softhsm2", "SoftHSM2", "libsofthsm2.so", "libsofthsm2", "soft", "SOFT"]
)
def test_module_name_selects_among_what_is_known(machine: Machine, name: str) -> None:
    file = machine.library("libsofthsm2.so")
    machine.register("soft", f"module: {file}")
    machine.register("other", f"module: {machine.library('libother.so')}")
    assert machine.paths(Uri.parse(f"pkcs11:?module-name={name}")) == [file]


@pytest.mark.parametrize("name", ["hsm", "softhsm", "", "..%2Fsofthsm2", "softhsm2.dll"])
def test_module_name_never_adds_a_module(machine: Machine, name: str) -> None:
    file = machine.library("libsofthsm2.so")
    machine.environment["MESH_HSM_PKCS11_MODULE"] = str(file)
    uri = Uri.parse(f"pkcs11:?module-name={name}")
    with pytest.raises(NotFoundError, match="module-name") as caught:
        machine.found(uri)
    assert "softhsm2" in str(caught.value.hint)
    with pytest.raises(NotFoundError):
        machine.found(Uri(uri.scheme, (), uri.query + reached_by(file).query))


def test_the_path_of_a_uri_says_nothing_of_modules(machine: Machine) -> None:
    assert machine.found(Uri("pkcs11", (("module-path", "/lib/m.so"),))) == []


def test_what_p11_kit_has_a_module_told_it_is_told(machine: Machine) -> None:
    file = machine.library("libnss.so")
    machine.register("nss", f"module: {file}", "x-init-reserved: flags=readOnly")
    machine.register("far", "remote: |ssh host p11-kit remote")
    [source] = machine.found()
    assert source.path == file
    assert (source.obstacle, source.reserved) == (None, "flags=readOnly")


NO_PATHS = ["libm.so", "./m.so", "~/m.so", "/", "/dev/null", "/lib/m\n.so"]


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_absolute_path_of_a_file_is_refused_where_it_stands(
    machine: Machine, path: str
) -> None:
    with pytest.raises(FormatError, match="URI"):
        machine.found(reached_by(path))
    file = machine.configure(f'modules = ["{path}"]'.replace("\n", "\\n"))
    with pytest.raises(FormatError, match=str(file)):
        machine.found()
    machine.environment["MESH_HSM_PKCS11_MODULE"] = path
    with pytest.raises(FormatError, match="MESH_HSM_PKCS11_MODULE"):
        machine.found()


MALFORMED = {
    "empty": b"",
    "not TOML": b"modules: /lib/m.so",
    "not UTF-8": b'modules = ["/lib/\xff.so"]',
    "one path": b'modules = "/lib/m.so"',
    "a number": b"modules = [1]",
    "unknown key": b'modules = []\nmodule = "/lib/m.so"',
    "unknown key alone": b'module = "/lib/m.so"',
    "a table": b"[modules]\n",
    "twice": b"modules = []\nmodules = []",
    "without end": b"modules = " + b"[" * 60000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_configuration_is_refused(machine: Machine, name: str) -> None:
    machine.configure("").write_bytes(MALFORMED[name])
    with pytest.raises(FormatError, match=r"modules\.toml"):
        machine.found()


def test_a_configuration_is_short(machine: Machine) -> None:
    machine.configure("modules = []\n" + "#" * (1 << 16))
    with pytest.raises(FormatError, match="larger"):
        machine.found()


def test_a_configuration_that_leads_nowhere_is_not_passed_over(machine: Machine) -> None:
    (machine.records / "modules.toml").symlink_to("/nowhere")
    with pytest.raises(StorageError):
        machine.found()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_configuration_that_others_may_write_is_refused(machine: Machine, mode: int) -> None:
    file = machine.configure("modules = []")
    assert machine.found() == []
    file.chmod(mode)
    with pytest.raises(AccessError, match="others may write") as caught:
        machine.found()
    assert "chmod" in str(caught.value.hint)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_configuration_that_others_may_replace_is_refused(machine: Machine, mode: int) -> None:
    machine.configure("modules = []")
    machine.records.chmod(mode)
    with pytest.raises(AccessError, match="others may write"):
        machine.found()


def test_a_configuration_that_is_a_link_is_refused_where_others_may_replace_either_end(
    machine: Machine,
) -> None:
    file = machine.configure("modules = []")
    elsewhere = file.rename(machine.libraries / "elsewhere.toml")
    file.symlink_to(elsewhere)
    assert machine.found() == []
    machine.libraries.chmod(0o770)
    with pytest.raises(AccessError, match="lib"):
        machine.found()
    machine.libraries.chmod(0o700)
    machine.records.chmod(0o770)
    with pytest.raises(AccessError, match="records"):
        machine.found()


def test_a_configuration_of_another_user_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = machine.configure("modules = []")
    if os.geteuid() == 0:
        os.chown(file, 65534, -1)
    else:  # only root may give a file away: so we become somebody else
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(AccessError, match="another user"):
        machine.found()


def everybody_may_write_the_file(machine: Machine) -> Path:
    file = machine.library("m.so")
    file.chmod(0o757)
    return file


def everybody_may_replace_the_file(machine: Machine) -> Path:
    file = machine.library("m.so")
    machine.libraries.chmod(0o1777)
    return file


def everybody_may_replace_the_link(machine: Machine) -> Path:
    folder = machine.libraries / "public"
    folder.mkdir()
    folder.chmod(0o777)
    link = folder / "m.so"
    link.symlink_to(machine.library("m.so"))
    return link


def everybody_may_replace_the_target(machine: Machine) -> Path:
    folder = machine.libraries / "private"
    folder.mkdir(mode=0o755)
    link = folder / "m.so"
    link.symlink_to(everybody_may_replace_the_file(machine))
    return link


@pytest.mark.parametrize(
    "prepare",
    [
        everybody_may_write_the_file,
        everybody_may_replace_the_file,
        everybody_may_replace_the_link,
        everybody_may_replace_the_target,
    ],
)
def test_code_that_everybody_may_write_is_not_run(
    machine: Machine, prepare: Callable[[Machine], Path]
) -> None:
    file = prepare(machine)
    with pytest.raises(AccessError) as by_uri:
        machine.found(reached_by(file))
    machine.configure(f'modules = ["{file}"]')
    with pytest.raises(AccessError) as by_configuration:
        machine.found()
    machine.environment["MESH_HSM_PKCS11_MODULE"] = str(file)
    with pytest.raises(AccessError) as by_environment:
        machine.found()
    said = [by_uri.value, by_configuration.value, by_environment.value]
    assert all("everybody may write" in str(error) and error.hint for error in said)


def test_a_registered_module_that_everybody_may_write_is_an_obstacle_to_itself_alone(
    machine: Machine,
) -> None:
    machine.register("bad", f"module: {everybody_may_write_the_file(machine)}")
    machine.register("good", f"module: {machine.library('good.so')}")
    bad, good = machine.found()
    assert "everybody may write" in str(bad.obstacle)
    assert good.obstacle is None


def test_what_runs_elsewhere_keeps_its_obstacle(machine: Machine) -> None:
    machine.register(
        "far", "remote: |ssh host p11-kit remote", f"module: {machine.library('m.so')}"
    )
    assert "p11-kit-proxy.so" in str(machine.found()[0].obstacle)


def test_an_administrators_group_may_write_libraries(machine: Machine) -> None:
    file = machine.library("m.so")
    machine.libraries.chmod(0o2775)
    assert machine.paths(reached_by(file)) == [file]
