"""The TOML file as a declaration: its contents, whether it changed, and the line of a mistake."""

from __future__ import annotations

import os
import time
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.model import Bmc, HostSpec, Phase
from bmhctl.domain.policy import StepKind
from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.stores.toml import declaration
from bmhctl.stores.toml import file as toml_file
from bmhctl.stores.toml.declaration import parse_declaration, read_declaration
from bmhctl.stores.toml.file import DeclarationFile, Fingerprint

LAB = """\
[defaults]
ttl = "2h"  # for people

[checks.ssh]
tcp = 22

[hosts.node02]
address = "10.0.0.12"

[hosts.node01]
address = "10.0.0.12"
mac = "BC:55:85:92:DE:B7"
labels = { arch = "x86_64" }
bmc = { address = "10.0.1.11", credentials = "env:LAB_BMC" }
hardware = { cpus = 64, memory = "256GiB" }
note = "left slot, top"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


def refused(text: str | bytes) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        parse_declaration(text.encode() if isinstance(text, str) else text, "lab.toml")
    assert int(caught.value.status) == 10
    return caught.value


# tests: what it says


def test_a_declaration_has_the_hosts_in_file_order_and_the_policy_separately() -> None:
    said = parse_declaration(LAB.encode(), "lab.toml")
    assert said.hosts == (
        HostSpec("node02", address="10.0.0.12"),
        HostSpec(
            "node01",
            address="10.0.0.12",
            mac="bc:55:85:92:de:b7",
            labels={"arch": "x86_64"},
            bmc=Bmc("10.0.1.11", credentials="env:LAB_BMC"),
            hardware={"cpus": 64, "memory": "256GiB"},
            note="left slot, top",
        ),
    )
    assert said.policy_text == '[defaults]\nttl = "2h"\n\n[checks.ssh]\ntcp = 22\n'
    assert said.policy.ttl == timedelta(hours=2)
    assert [step.kind for step in said.policy.of(Phase.CHECKS)] == [StepKind.TCP]
    assert len(said.warnings) == 1
    assert said.warnings[0].startswith("node02 and node01 have the same address 10.0.0.12")


def test_the_policy_text_is_parsed_as_the_same_policy() -> None:
    said = parse_declaration(LAB.encode(), "lab.toml")
    again = parse_declaration(said.policy_text.encode(), "policy.toml")
    assert (again.policy, again.policy_text, again.hosts) == (said.policy, said.policy_text, ())


def test_an_empty_file_declares_nothing() -> None:
    said = parse_declaration(b"", "lab.toml")
    assert (said.hosts, said.policy_text, said.warnings) == ((), "", ())


def test_windows_line_ends_change_nothing() -> None:
    said = parse_declaration(LAB.replace("\n", "\r\n").encode(), "lab.toml")
    assert said.hosts == parse_declaration(LAB.encode(), "lab.toml").hosts


# tests: where a mistake stands


@pytest.mark.parametrize(
    ("text", "begins", "line", "column"),
    [
        ("a\n", "lab.toml:1:2: Expected '='", 1, 2),
        ('[hosts.a]\nnote = "x\n', "lab.toml:2:10: ", 2, 10),
        ('[hosts.a]\r\nnote = "x\r\n', "lab.toml:2:10: ", 2, 10),
        ('[hosts.a]\nnote = """x\n', "lab.toml:3:1: Unterminated string", 3, 1),
        ("[hosts.a]\n\n[hosts.a]\n", "lab.toml:3:9: hosts.a is declared twice", 3, 9),
        ("[hosts.a]\nnote = 'x'\nnote = 'y'\n", "lab.toml:3:11: Cannot overwrite a value", 3, 11),
        (b"[hosts.a]\nnote = 'caf\xe9'\n", "lab.toml:2:12: byte 0xe9 is not UTF-8", 2, 12),
        ("é = é\n".encode() + b"\xff", "lab.toml:2:1: byte 0xff is not UTF-8", 2, 1),
        ("\ufeff[hosts.a]\n", "lab.toml:1:1: begins with a byte order mark", 1, 1),
        ("[hosts.a]\n".encode("utf-16"), "lab.toml:1:1: byte 0xff is not UTF-8", 1, 1),
        ("[hosts.a]\nnote = 'a\0'\n", "lab.toml:2:10: a NUL byte", 2, 10),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_line_and_column(
    text: str | bytes, begins: str, line: int, column: int
) -> None:
    error = refused(text)
    assert error.message.startswith(begins)
    assert error.details == {"file": "lab.toml", "line": line, "column": column}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            '# c\n[hosts.node01]\nadress = "10.0.0.1"\n',
            "lab.toml:3: hosts.node01: unknown key 'adress'",
            "did you mean 'address'?",
        ),
        ("[hosts.\"node01\"]\nmac = '''\n[hosts.x]'''\nadress = 1\n", "lab.toml:4: hosts.node01: unknown key", None),
        ("hosts.node01.labels.a = 'x'\nhosts . node01 . adress = 1\n", "lab.toml:2: hosts.node01: unknown", None),
        ("\nhosts = { node01 = { note = 'x', adress = 1 } }\n", "lab.toml:2: hosts.node01: unknown key", None),
        ("\n[hosts]\n'node01' = { adress = 1 }\n", "lab.toml:3: hosts.node01: unknown key", None),
        ("\n\n[host.node01]\n", "lab.toml: unknown key 'host'", "did you mean 'hosts'?"),
        ("\n\n[host]\n", "lab.toml:3: unknown key 'host'", "did you mean 'hosts'?"),
        ("\nhosts = 3\n", "lab.toml:2: hosts must be a table, not 3", None),
        ("\n[hosts]\nnode01 = '10.0.0.1'\n", "lab.toml:3: hosts.node01 must be a table, not '10.0.0.1'", None),
        ("\n[[hosts.node01]]\n", "lab.toml:2: hosts.node01 must be a table, not [{}]", None),
        ("[hosts.a]\n\n[hosts.Node_1]\n", "lab.toml:3: hosts: 'Node_1' is not a host name", None),
        ("[hosts.'a..b']\n", "lab.toml:1: hosts: 'a..b' is not a host name", None),
        ("[hosts.a]\naddress = 3\n", "lab.toml:2: hosts.a.address must be a text, not 3", None),
        ("[hosts.a]\nmac = 'x'\n", "lab.toml:2: hosts.a.mac must be a MAC address", None),
        ("[hosts.a]\n[hosts.a.labels]\nx = 1\n", "lab.toml:3: hosts.a.labels.x must be a text", None),
        ("[hosts.a]\nlabels = {x = 'a', 'b.c' = '§'}\n", "lab.toml:2: hosts.a.labels.b.c must be a text", None),
        (
            "[hosts.a.bmc]\naddress = 'x'\npassword = 'hunter2'\n",
            "lab.toml:3: hosts.a.bmc.password: an inventory holds no secrets",
            None,
        ),
        ("[hosts.a.bmc]\naddress='x'\ncredentials = 'hunter2'\n", "lab.toml:3: hosts.a.bmc.credentials is not", None),
        ("[hosts.a]\nbmc = {address = 'http://me:pw@x'}\n", "lab.toml:2: hosts.a.bmc.address holds a user", None),
        ("[hosts.a]\n\nbmc = {}\n", "lab.toml:3: hosts.a.bmc has no address", None),
        ("[defaults]\nttl = 'soon'\n", "lab.toml:2: defaults.ttl: 'soon' is not a duration", None),
        ("[defaults]\nquarantine_after = 0\n", "lab.toml:2: defaults.quarantine_after must be", None),
        ("[defaults]\nttl = '2h'\nmax_ttl = '1h'\n", "lab.toml:2: defaults.ttl is longer than defaults.max_ttl", None),
        ("\n[checks.'burn in']\n", "lab.toml:2: checks.burn in has none of command, tcp, http", None),
        ("[checks.burn]\ntcp = 1\n[checks.'burn in']\n", "lab.toml:3: checks.burn in has none of", None),
        ("checks.burn.tcp = 1\nchecks.'burn in'.timeout = '1s'\n", "lab.toml: checks.burn in has none of", None),
        ("[cleanup.wipe]\ncommand = 'rm'\n", "lab.toml:2: cleanup.wipe.command must be a list", None),
        ("[cleanup.wipe]\ntcp = 1\nselector = '='\n", "lab.toml:3: cleanup.wipe.selector: ", None),
        (
            "[hosts.a]\n[export]\nversion = 1\n",
            "lab.toml:2: export: this file is an export, not an inventory",
            "take it into an inventory: bmhctl import FILE",
        ),
    ],
)
def test_an_error_never_names_a_wrong_line(text: str, message: str, hint: str | None) -> None:
    error = refused(text)
    assert error.message.startswith(message)
    line = message.split(":")[1]
    assert error.details.get("line") == (int(line) if line.isdigit() else None)
    assert error.details["file"] == "lab.toml"
    assert hint is None or error.hint == hint
    assert "hunter2" not in f"{error.message} {error.hint} {error.details}"


@pytest.mark.parametrize("written", ["a.b.x = 1", "[a.b]\nx = 1", "[a]\nb.x = 1", "a = { b = { x = 1 } }"])
def test_a_dotted_name_that_two_keys_share_gets_no_line(written: str) -> None:
    twin = "'a.b'.x = 2\n"
    assert declaration._line_of(f"{written}\n", "a.b.x", "") == written.count("\n") + 1
    assert declaration._line_of(f"{twin}{written}\n", "a.b.x", "") is None


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "[" * 5_000 + "]" * 5_000,
        "x = " + "{a=" * 300 + "1" + "}" * 300,
        "hosts.a" + ".a" * 3_000 + " = 1",
        "hosts = " + "[" * 200 + "]" * 200,
        "x = " + "9" * 5_000,
    ],
)
def test_absurd_depth_and_length_give_one_clear_error(text: str) -> None:
    error = refused(text)
    assert error.message.startswith("lab.toml")
    assert len(error.message) < 400


@given(st.text(alphabet="[]{}=.,#\"'\\\n\r ahost1-é\t", max_size=60) | st.binary(max_size=40))
def test_any_file_is_read_as_a_declaration_or_refused(text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    try:
        parse_declaration(data, "lab.toml")
    except InvalidError as error:
        assert error.message.startswith("lab.toml:")  # noqa: PT017


# tests: whether it changed


def test_both_names_of_a_file_share_one_state_file(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "other.toml"
    link.symlink_to(lab)
    assert [DeclarationFile(path).path for path in (lab, link)] == [lab.resolve()] * 2
    assert [DeclarationFile(path).state_path for path in (lab, link)] == [lab.resolve().with_name("lab.state.db")] * 2


def test_a_file_name_with_more_dots_keeps_them_in_the_name_of_its_state_file(tmp_path: Path) -> None:
    assert DeclarationFile(tmp_path / "lab.v2.toml").state_path.name == "lab.v2.state.db"


def test_the_fingerprint_of_a_file_written_just_now_is_settled_after_one_reading(lab: Path) -> None:
    for number in range(20):
        lab.write_text(LAB + f"# {number}\n")
        assert read_declaration(DeclarationFile(lab)).fingerprint.settled is True


def test_an_unchanged_file_is_neither_read_nor_parsed(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DeclarationFile(lab)
    fingerprint = read_declaration(file).fingerprint
    monkeypatch.setattr(toml_file, "read_file", lambda _: pytest.fail("read"))
    monkeypatch.setattr(toml_file, "sha256_of", lambda _: pytest.fail("hashed"))
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("parsed"))
    assert file.same(fingerprint) is True


def test_a_touched_or_copied_file_counts_as_unchanged(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DeclarationFile(lab)
    fingerprint = read_declaration(file).fingerprint
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("parsed"))
    os.utime(lab)
    assert file.same(fingerprint) is True
    copy = lab.with_name("copy")
    copy.write_bytes(lab.read_bytes())
    copy.replace(lab)
    assert file.same(fingerprint) is True


@pytest.mark.slow
def test_an_edit_of_the_same_size_right_after_reading_is_noticed(lab: Path) -> None:
    file = DeclarationFile(lab)
    for number in range(50):
        fingerprint = read_declaration(file).fingerprint
        lab.write_text(LAB.replace("left slot", f"slot {number:04}"))
        assert file.same(fingerprint) is False


def test_an_edit_that_restores_the_old_times_is_noticed(lab: Path) -> None:
    file = DeclarationFile(lab)
    fingerprint = read_declaration(file).fingerprint
    lab.write_text(LAB.replace("left", "lost"))
    os.utime(lab, ns=(fingerprint.mtime_ns, fingerprint.mtime_ns))
    assert lab.stat().st_mtime_ns == fingerprint.mtime_ns
    assert file.same(fingerprint) is False


def test_a_fingerprint_that_is_not_settled_is_compared_by_content(lab: Path) -> None:
    file = DeclarationFile(lab)
    status = lab.stat()
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    other = Fingerprint.of(LAB.replace("left", "lost").encode()).sha256
    assert file.same(Fingerprint(*stamp, other, settled=False)) is False
    assert file.same(Fingerprint(*stamp, other, settled=True)) is True
    assert file.same(Fingerprint.of(LAB.encode())) is True
    assert file.same(Fingerprint.of(LAB.encode() + b"#")) is False
    assert file.same(None) is False


@pytest.mark.parametrize(
    ("mtime", "age", "settled"),
    [
        (1_000_000_000_000_000_001, 20_000_000, True),
        (1_000_000_000_000_000_001, 19_999_999, False),
        (1_000_000_000_000_000_001, -1, False),
        (1_000_000_000_000_000_000, 2_000_000_000, False),
        (1_000_000_000_000_000_000, 2_000_000_001, True),
    ],
)
def test_file_times_are_trusted_only_when_a_later_write_must_change_them(mtime: int, age: int, settled: bool) -> None:
    whole = mtime // 1_000_000_000
    status = os.stat_result(
        (0o100644, 7, 1, 1, 0, 0, 5, whole, whole, whole),
        {"st_mtime_ns": mtime, "st_ctime_ns": mtime, "st_atime_ns": mtime},
    )
    assert toml_file._is_settled(status, mtime + age) is settled


def test_a_file_from_the_future_is_read_without_waiting_and_never_settled(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = lab.stat().st_mtime_ns + 3_600_000_000_001
    os.utime(lab, ns=(future, future))
    monkeypatch.setattr(toml_file.time, "sleep", lambda _: pytest.fail("waited"))
    assert read_declaration(DeclarationFile(lab)).fingerprint.settled is False


def test_a_file_that_changes_while_it_is_read_is_read_again(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[bytes] = []

    def read_and_meddle(path: Path) -> bytes:
        reads.append(path.read_bytes())
        if len(reads) == 1:
            path.write_text("[hosts.late]\n")
        return reads[-1]

    monkeypatch.setattr(toml_file, "read_file", read_and_meddle)
    assert [spec.name for spec in read_declaration(DeclarationFile(lab)).hosts] == ["late"]
    assert len(reads) == 2


def test_a_file_that_is_written_in_place_is_read_after_its_writer_has_finished(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [f"[hosts.node{number}]\n" for number in range(6)]

    def written_meanwhile(_: float) -> None:
        if chunks:
            with lab.open("a") as file:
                file.write(chunks.pop())

    lab.write_bytes(b"")
    monkeypatch.setattr(time, "sleep", written_meanwhile)
    # a millisecond after each write, however slow this machine is; long after the last one
    monkeypatch.setattr(time, "time_ns", lambda: lab.stat().st_ctime_ns + (1_000_000 if chunks else 10**10))
    assert len(read_declaration(DeclarationFile(lab)).hosts) == 6


def test_a_file_that_changes_all_the_time_is_unreachable(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_and_meddle(path: Path) -> bytes:
        data = path.read_bytes()
        path.write_bytes(data + b"#\n")
        return data

    monkeypatch.setattr(toml_file, "read_file", read_and_meddle)
    with pytest.raises(UnreachableError, match="keeps changing while it is read"):
        read_declaration(DeclarationFile(lab))


@given(
    st.builds(
        Fingerprint,
        st.integers(0, 2**64),
        st.integers(0, 2**40),
        st.integers(-(2**63), 2**63),
        st.integers(-(2**63), 2**63),
        st.binary().map(lambda data: Fingerprint.of(data).sha256),
        st.booleans(),
    )
)
def test_a_fingerprint_is_parsed_from_its_text(fingerprint: Fingerprint) -> None:
    assert Fingerprint.from_text(fingerprint.to_text()) == fingerprint


@pytest.mark.parametrize("text", ["", "nonsense", "1 2 3 4 1 beef", "1 2 3 4 2 " + "0" * 64])
def test_an_invalid_fingerprint_is_treated_as_a_missing_one(text: str) -> None:
    assert Fingerprint.from_text(text) is None


# tests: what can't be read


def test_a_missing_file_is_unreachable_with_the_command_that_creates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for act in (
        lambda: read_declaration(DeclarationFile(Path("lab.toml"))),
        lambda: DeclarationFile(Path("lab.toml")).same(SOME),
    ):
        with pytest.raises(UnreachableError) as caught:
            act()
        assert (caught.value.message, caught.value.hint) == (
            "there is no lab.toml",
            "create it: bmhctl -i lab.toml init",
        )
        assert int(caught.value.status) == 11


SOME = Fingerprint.of(b"")


def test_a_directory_a_pipe_and_a_loop_of_links_are_unreachable(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name, said in (("folder", "is a directory"), ("pipe", "is not a regular file"), ("loop", "symbolic links")):
        with pytest.raises(UnreachableError, match=said):
            read_declaration(DeclarationFile(tmp_path / f"{name}.toml"))


def test_a_file_without_read_permission_is_unreachable(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(toml_file, "open", refuse, raising=False)
    with pytest.raises(UnreachableError, match=r"^may not read .*lab\.toml: permission denied$"):
        read_declaration(DeclarationFile(lab))


def test_a_huge_file_is_refused_without_being_read(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(lab, toml_file.SIZE_LIMIT + 1)
    monkeypatch.setattr(toml_file, "open", lambda *_: pytest.fail("read"), raising=False)
    with pytest.raises(InvalidError, match=r"lab\.toml is larger than 256 MiB$"):
        read_declaration(DeclarationFile(lab))


def test_messages_name_a_file_by_its_path_relative_to_the_working_directory(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write_text("[hosts.a]\nadress = 1\n")
    for folder, name in ((lab.parent, "lab.toml"), (Path("/"), str(lab.resolve())[1:]), (Path("/usr"), str(lab))):
        monkeypatch.chdir(folder)
        with pytest.raises(InvalidError) as caught:
            read_declaration(DeclarationFile(lab))
        assert caught.value.message == f"{name}:2: hosts.a: unknown key 'adress'"
