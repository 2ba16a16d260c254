"""Edits of a TOML inventory make exactly the requested change, keep every comment, and are atomic on disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bmhctl.domain.model import Bmc, HostSpec
from bmhctl.errors import InvalidError, NotFoundError, UnreachableError
from bmhctl.stores.toml import atomic_replace, editor
from bmhctl.stores.toml.atomic_replace import edit_file
from bmhctl.stores.toml.declaration import parse_declaration
from bmhctl.stores.toml.editor import Change, edited
from bmhctl.stores.toml.scanner import scan

LAB = """\
# the lab
[defaults]
ttl = "4h"  # long enough

[hosts.node01]      # top left
address = "10.0.0.11"   # static
mac = "BC:55:85:92:DE:B7"
labels = { arch = "x86_64", rack = "r1" }
# who knows
note = 'left # [hosts.node09]'

# the second
[hosts.node02]
# inside the second
address = "10.0.0.12"
[hosts.node02.labels]  # its labels
arch = "arm64"  # new

# the third
[hosts.node03]
"""


def change(text: str, *changes: Change) -> str:
    return edited(text.encode(), changes, "lab.toml").decode()


def host(text: str, name: str) -> HostSpec:
    return next(spec for spec in parse_declaration(text.encode(), "lab.toml").hosts if spec.name == name)


def test_add_appends_a_block_after_a_blank_line_and_changes_nothing_else() -> None:
    spec = HostSpec(
        "node04",
        address="10.0.0.14",
        labels={"arch": "arm64", "example.com/rack": "r1"},
        bmc=Bmc("redfish+https://10.0.1.14/redfish/v1/Systems/1", credentials="env:LAB_BMC"),
        hardware={"cpus": 64, "memory": "256GiB"},
        note='a "quoted" note',
    )
    assert (
        change(LAB, Change.add(spec))
        == LAB
        + """
[hosts.node04]
address = "10.0.0.14"
labels = { arch = "arm64", "example.com/rack" = "r1" }
bmc = { address = "redfish+https://10.0.1.14/redfish/v1/Systems/1", credentials = "env:LAB_BMC" }
hardware = { cpus = 64, memory = "256GiB" }
note = "a \\"quoted\\" note"
"""
    )


def test_set_replaces_only_the_values_that_differ() -> None:
    new = replace(host(LAB, "node01"), address="10.0.0.21", labels={"arch": "arm64", "gpu": ""}, note=None)
    assert change(LAB, Change.replace(new)) == LAB.replace('"10.0.0.11"', '"10.0.0.21"').replace(
        '{ arch = "x86_64", rack = "r1" }', '{ arch = "arm64", gpu = "" }'
    ).replace("note = 'left # [hosts.node09]'\n", "")


def test_set_writes_into_sub_tables_and_keeps_the_comment_of_a_removed_line() -> None:
    new = replace(host(LAB, "node02"), mac="bc:55:85:92:de:b8", labels={"rack": "r2"})
    assert change(LAB, Change.replace(new)) == LAB.replace(
        'address = "10.0.0.12"\n', 'address = "10.0.0.12"\nmac = "bc:55:85:92:de:b8"\n'
    ).replace('arch = "arm64"  # new\n', '# new\nrack = "r2"\n')


def test_set_keeps_the_notation_of_an_equal_value() -> None:
    assert change(LAB, Change.replace(host(LAB, "node01"))) == LAB


def test_rename_replaces_every_occurrence_of_the_old_name() -> None:
    assert change(LAB, Change.rename("node02", "blade-7")) == LAB.replace("hosts.node02", "hosts.blade-7")


def test_remove_keeps_every_comment_and_one_blank_line() -> None:
    assert (
        change(LAB, Change.remove("node02"))
        == LAB[: LAB.index("[hosts.node02]")]
        + "# inside the second\n# its labels\n# new\n\n# the third\n[hosts.node03]\n"
    )
    assert change("[hosts.a]\n\n[hosts.b]\n\n[hosts.c]\n", Change.remove("b")) == "[hosts.a]\n\n[hosts.c]\n"
    assert change("[hosts.a]\n\n[hosts.b]\n", Change.remove("b")) == "[hosts.a]\n"
    assert change("[hosts.a]\n\n[hosts.b]\n", Change.remove("a")) == "[hosts.b]\n"


def test_several_changes_are_made_in_their_order() -> None:
    text = change(
        LAB,
        Change.rename("node01", "a"),
        Change.rename("a", "b"),
        Change.remove("b"),
        Change.add(HostSpec("b", note="new")),
        Change.remove("node02"),
    )
    assert [spec.name for spec in parse_declaration(text.encode(), "lab.toml").hosts] == ["node03", "b"]
    assert host(text, "b") == HostSpec("b", note="new")


@pytest.mark.parametrize(
    ("before", "made", "after"),
    [
        ("", Change.add(HostSpec("a")), "[hosts.a]\n"),
        ("# only", Change.add(HostSpec("a")), "# only\n\n[hosts.a]"),
        ("hosts = {}\n", Change.add(HostSpec("a", note="x")), 'hosts = { a = { note = "x" } }\n'),
        ("hosts = { b = {}} # c\n", Change.add(HostSpec("a")), "hosts = { b = {}, a = {}} # c\n"),
        ('hosts.b.note = "x"\n', Change.add(HostSpec("a")), 'hosts.b.note = "x"\n\n[hosts.a]\n'),
        ('hosts.b.note = "x" # c\n', Change.replace(HostSpec("b")), "# c\nhosts.b = {}\n"),
        ('[hosts]\nb.note = "x"\n', Change.replace(HostSpec("b")), "[hosts]\nb = {}\n"),
        ('[hosts."b".labels]\nx = "1"\n', Change.replace(HostSpec("b")), '[hosts."b"]\n'),
        (
            '[hosts.b.labels]\nx = "1"\n',
            Change.replace(HostSpec("b", address="b.lab", labels={"x": "1"}, note="n")),
            '[hosts.b]\naddress = "b.lab"\nnote = "n"\n[hosts.b.labels]\nx = "1"\n',
        ),
        (
            '[hosts]\n  b . labels.x = "1"\n',
            Change.replace(HostSpec("b", labels={"x": "2", "y": "3"}, note="n")),
            '[hosts]\n  b . labels.x = "2"\n  b . labels.y = "3"\n  b . note = "n"\n',
        ),
        ('hosts = { b.note = "x" }\n', Change.replace(HostSpec("b", mac="aa:bb:cc:dd:ee:ff")), None),
        ("hosts = { b = {}, c = {}, d = {} }\n", Change.remove("b"), "hosts = { c = {}, d = {} }\n"),
        ("hosts = { b = {}, c = {}, d = {} }\n", Change.remove("c"), "hosts = { b = {}, d = {} }\n"),
        ("hosts = { b = {}, c = {}, d = {} }\n", Change.remove("d"), "hosts = { b = {}, c = {} }\n"),
        ('[ hosts . "b" ]\r\nnote = "x"', Change.rename("b", "c"), '[ hosts . c ]\r\nnote = "x"'),
        ('[hosts.b]\r\nnote = "x"', Change.add(HostSpec("c")), '[hosts.b]\r\nnote = "x"\r\n\r\n[hosts.c]'),
        ("[hosts.b]\nbmc.address = 'x'\nbmc.verify_tls = true\n", Change.replace(HostSpec("b")), "[hosts.b]\n"),
        (
            "[hosts.b]\nbmc = { address = 'x', verify_tls = true }\n",
            Change.replace(HostSpec("b", bmc=Bmc("x", verify_tls=False))),
            "[hosts.b]\nbmc = { address = 'x', verify_tls = false }\n",
        ),
    ],
)
def test_every_layout_is_edited_in_its_own_way(before: str, made: Change, after: str | None) -> None:
    result = change(before, made)
    if after is not None:
        assert result == after
    if made.spec is not None:
        assert host(result, made.spec.name) == made.spec


def test_missing_and_taken_names_are_refused() -> None:
    with pytest.raises(NotFoundError, match=r"^lab\.toml declares no host nope$"):
        change(LAB, Change.remove("nope"))
    with pytest.raises(NotFoundError):
        change(LAB, Change.replace(HostSpec("nope")))
    with pytest.raises(InvalidError, match=r"^lab\.toml already declares node02$"):
        change(LAB, Change.rename("node01", "node02"))
    with pytest.raises(InvalidError, match="already declares"):
        change(LAB, Change.add(HostSpec("node02")))
    with pytest.raises(InvalidError, match="not a host name"):
        change(LAB, Change.rename("node01", "Node_1"))
    with pytest.raises(InvalidError, match=r"hosts\.a\.mac"):
        change(LAB, Change.add(HostSpec("a", mac="nonsense")))


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("between", ["\n", "", "\n\n", "# kept\n"])
def test_all_hosts_of_a_file_can_be_removed_at_once(names: list[str], between: str) -> None:
    text = between.join(f'[hosts.{name}]\nnote = "x"\n' for name in names)
    rest = change(text, *(Change.remove(name) for name in names))
    assert rest.replace("\n", "") == "# kept" * (len(names) - 1) * ("#" in between)


def test_an_edit_with_an_unintended_result_is_refused_with_the_lines_to_write_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [
        Change.replace(replace(host(LAB, "node01"), mac=None, note="x")),
        Change.add(HostSpec("a", note="y")),
        Change.rename("node02", "b"),
        Change.remove("b"),
    ]
    for broken in (LAB, LAB.replace("# static", ""), "hosts = ["):
        monkeypatch.setattr(editor, "_rewritten", lambda *_, broken=broken: broken)
        with pytest.raises(InvalidError) as caught:
            change(LAB, *changes)
        by_hand = [
            'under [hosts.node01] write note = "x" and delete mac',
            'at the end write [hosts.a] and below it note = "y"',
            "write hosts.b for hosts.node02 wherever it occurs",
            "delete all of hosts.b",
        ]
        assert caught.value.details == {"file": "lab.toml", "by_hand": by_hand}
        assert caught.value.hint == f"edit it by hand: {'; '.join(by_hand[:3])} …"


def test_an_edit_that_would_lose_a_comment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = LAB.replace("node02", "b").replace("# inside the second\n", "")
    monkeypatch.setattr(editor, "_rewritten", lambda *_: lossy)
    with pytest.raises(InvalidError, match="can't make this change"):
        change(LAB, Change.rename("node02", "b"))


# Any layout. A document is drawn as statements with known comments, so the tests do not depend on the scanner.

EVIL = ["[hosts.fake]", '"""', "'''", '"', "' = {", "hosts.fake.note = 1", "# twice", "\\", "é 漢"]
NAMES = ["node01", "a", "7", "x-1", "labels"]
NOTES = [
    "plain",
    "# no comment",
    "[hosts.fake]",
    'say "hi"',
    "it's",
    "back\\slash",
    '"""',
    "'''",
    "a = 'b' # c",
    "é",
    "",
]
LABELS = st.dictionaries(
    st.sampled_from(["arch", "gpu", "example.com/rack", "a.b", "7"]), st.sampled_from(["x", "7", "", "a.b"]), max_size=3
)
SPECS = st.builds(
    HostSpec,
    name=st.just("none"),
    address=st.sampled_from([None, "10.0.0.1", "fd00::1", "a.lab"]),
    mac=st.sampled_from([None, "bc:55:85:92:de:b7"]),
    labels=LABELS,
    bmc=st.none()
    | st.builds(
        Bmc,
        st.sampled_from(["10.0.1.1", "redfish://b/redfish/v1"]),
        system_id=st.sampled_from([None, "#1"]),
        verify_tls=st.booleans(),
    ),
    hardware=st.dictionaries(st.sampled_from(["cpus", "memory"]), st.sampled_from([4, "256GiB"]), max_size=2),
    note=st.none() | st.sampled_from(NOTES),
)


class Document:
    """A TOML inventory while it is drawn: its text, the comments in it and what it declares."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.comments: list[str] = []
        self.newline = draw(st.sampled_from(["\n", "\r\n"]))

    def comment(self) -> str:
        self.comments.append(f"# c{len(self.comments)}; {self.draw(st.sampled_from(EVIL))} ;")
        return self.comments[-1]

    def line(self, statement: str) -> str:
        above = [self.comment()] if self.draw(st.integers(0, 4)) == 0 else []
        above += [""] * self.draw(st.sampled_from([0, 0, 0, 1, 2]))
        indent = self.draw(st.sampled_from(["", "", "  ", "\t"]))
        behind = f" {self.comment()}" if self.draw(st.integers(0, 3)) == 0 else ""
        return "".join(part + self.newline for part in (*above, indent + statement + behind))

    def key(self, *parts: str) -> str:
        return self.draw(st.sampled_from([".", ".", " . "])).join(map(self.part, parts))

    def part(self, part: str) -> str:
        is_bare = all(c.isalnum() or c in "-_" for c in part)
        styles = [f'"{part}"', f"'{part}'", f'"\\u{ord(part[0]):04x}{part[1:]}"']
        return self.draw(st.sampled_from([part] * 4 + styles if is_bare else styles))

    def value(self, value: object) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return self.draw(st.sampled_from([str(value), f"+{value}", hex(value)]))
        text = str(value)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        styles = [f'"{escaped}"', f'"""{escaped}"""', f'"""{self.newline}{escaped}\\{self.newline}   """']
        if "'" not in text:
            styles += [f"'{text}'", f"'''{self.newline}{text}'''", f"'''{text}'''"]
        return self.draw(st.sampled_from(styles))

    def flat(self, value: object) -> str:
        """Return the text of a value for an inline table."""
        if not isinstance(value, dict):
            return self.value(value)
        pairs = []
        for key, inner in value.items():
            if isinstance(inner, dict) and inner and self.draw(st.booleans()):
                pairs += [f"{self.key(key, sub)} = {self.flat(fact)}" for sub, fact in inner.items()]
            else:
                pairs.append(f"{self.key(key)} = {self.flat(inner)}")
        return self.draw(st.sampled_from(["{%s}", "{ %s }"])) % self.draw(st.sampled_from([",", ", "])).join(pairs)

    def below(self, prefix: tuple[str, ...], entry: dict[str, object]) -> list[str]:
        """Return the statements of a host's table; its keys follow a prefix."""
        lines = []
        for key, value in entry.items():
            if isinstance(value, dict) and value and self.draw(st.booleans()):
                lines += [self.line(f"{self.key(*prefix, key, s)} = {self.flat(v)}") for s, v in value.items()]
            else:
                lines.append(self.line(f"{self.key(*prefix, key)} = {self.flat(value)}"))
        return lines


def entry_of(spec: HostSpec, draw: st.DrawFn) -> dict[str, object]:
    entry: dict[str, object] = {}
    if spec.address is not None:
        entry["address"] = spec.address
    if spec.mac is not None:
        entry["mac"] = draw(st.sampled_from([spec.mac, spec.mac.upper()]))
    if spec.labels or draw(st.integers(0, 5)) == 0:
        entry["labels"] = dict(spec.labels)
    if spec.bmc is not None:
        bmc: dict[str, object] = {"address": spec.bmc.address}
        if spec.bmc.system_id is not None:
            bmc["system_id"] = spec.bmc.system_id
        if not spec.bmc.verify_tls or draw(st.booleans()):
            bmc["verify_tls"] = spec.bmc.verify_tls
        entry["bmc"] = bmc
    if spec.hardware:
        entry["hardware"] = dict(spec.hardware)
    if spec.note is not None:
        entry["note"] = spec.note
    return dict(draw(st.permutations(list(entry.items()))))


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[str], dict[str, HostSpec]]:
    document = Document(draw)
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    specs = {name: replace(draw(SPECS), name=name) for name in names}
    entries = {name: entry_of(spec, draw) for name, spec in specs.items()}
    root: list[str] = []
    table: list[str] = []
    sections: list[list[str]] = []
    layout = draw(st.sampled_from(["inline", "headers", "root", "table", "mixed"]))
    if layout == "inline":
        root.append(document.line(f"{document.key('hosts')} = {document.flat(entries)}"))
    for name, entry in entries.items():
        way = {"headers": "header", "root": "dotted", "table": "dotted"}.get(layout) or draw(
            st.sampled_from(["header", "dotted"])
        )
        if layout == "inline":
            continue
        if way == "dotted" and layout == "root":
            root += document.below(("hosts", name), entry) or [document.line(f"hosts.{document.key(name)} = {{}}")]
        elif way == "dotted":
            if entry and draw(st.booleans()):
                table += document.below((name,), entry)
            else:
                table.append(document.line(f"{document.key(name)} = {document.flat(entry)}"))
        else:
            apart = [key for key, value in entry.items() if isinstance(value, dict) and draw(st.booleans())]
            own = {key: value for key, value in entry.items() if key not in apart}
            if own or not apart or draw(st.booleans()):
                sections.append([document.line(f"[{document.key('hosts', name)}]"), *document.below((), own)])
            for key in apart:
                inner = entry[key]
                assert isinstance(inner, dict)
                sections.append([document.line(f"[{document.key('hosts', name, key)}]"), *document.below((), inner)])
    if table:
        sections.append([document.line(f"[{document.key('hosts')}]"), *table])
    if draw(st.booleans()):
        command = (
            f"[{document.newline}'#', {document.comment()}{document.newline} '''[hosts.z]{document.newline}# ''' ,]"
        )
        step = [
            document.line("[checks.burn-in]"),
            document.line(f"command = {command}"),
            document.line("timeout = '1m'"),
        ]
        sections.append(step)
    if draw(st.booleans()):
        root.append(document.line("defaults = {ttl = '1h', max_ttl = \"2h\"}"))
    text = "".join(root) + "".join(map("".join, draw(st.permutations(sections))))
    if draw(st.booleans()):
        text += document.comment() + document.newline
    if draw(st.integers(0, 3)) == 0:
        text = text.removesuffix(document.newline)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    return text, document.comments, specs


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, list[str], dict[str, HostSpec], list[Change], dict[str, HostSpec]]:
    text, comments, specs = draw(documents())
    wanted = dict(specs)
    changes: list[Change] = []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["add", "replace", "rename", "remove"])) if wanted else "add"
        name = draw(st.sampled_from(sorted(wanted))) if wanted else ""
        if kind == "add":
            spec = replace(draw(SPECS), name=f"new{number}")
            changes.append(Change.add(spec))
            wanted[spec.name] = spec
        elif kind == "replace":
            other, was = draw(SPECS), wanted[name]
            keys = ["address", "mac", "labels", "bmc", "hardware", "note"]
            chosen = draw(st.lists(st.sampled_from(keys), unique=True, min_size=1))
            wanted[name] = replace(was, **{key: getattr(other, key) for key in chosen})
            changes.append(Change.replace(wanted[name]))
        elif kind == "rename":
            changes.append(Change.rename(name, f"other{number}"))
            wanted[f"other{number}"] = replace(wanted.pop(name), name=f"other{number}")
        else:
            changes.append(Change.remove(name))
            del wanted[name]
    return text, comments, specs, changes, wanted


@pytest.mark.slow
@settings(
    max_examples=2 * settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(edits())
def test_in_any_layout_an_edit_makes_exactly_the_intended_difference(
    case: tuple[str, list[str], dict[str, HostSpec], list[Change], dict[str, HostSpec]],
) -> None:
    text, comments, specs, changes, wanted = case
    before = parse_declaration(text.encode(), "lab.toml")
    assert {spec.name: spec for spec in before.hosts} == specs

    result = change(text, *changes)

    after = parse_declaration(result.encode(), "lab.toml")
    assert {spec.name: spec for spec in after.hosts} == wanted
    assert (after.policy, after.policy_text) == (before.policy, before.policy_text)
    assert [comment for comment in comments if result.count(comment) != 1] == []
    if "\n" in text and "\n" in result:
        assert ("\r\n" in result, "\n" in result.replace("\r\n", "")) == ("\r\n" in text, "\r\n" not in text)
        assert result.endswith("\n") or not text.endswith("\n")
    touched = {name for made in changes for name in names_of(made)}
    plain_before, plain_after = tomllib.loads(text).get("hosts", {}), tomllib.loads(result).get("hosts", {})
    assert {n: e for n, e in plain_after.items() if n not in touched} == {
        n: e for n, e in plain_before.items() if n not in touched
    }


def names_of(made: Change) -> Iterable[str]:
    return [name for name in (made.old, made.new) if name is not None]


@settings(
    max_examples=settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(documents())
def test_the_scanner_finds_exactly_the_comments_and_every_key(
    case: tuple[str, list[str], dict[str, HostSpec]],
) -> None:
    text, comments, _ = case
    source = scan(text)
    assert sorted(text[start:end] for start, end in source.comments) == sorted(comments)
    assert editor._comments(text) == Counter(comments)
    for node in source.nodes:
        written = [text[start:end] for start, end in node.parts]
        assert [next(iter(tomllib.loads(f"{part} = 0"))) for part in written] == list(node.path[-len(written) :])
        if node.value is not None:
            tomllib.loads(f"value = {text[node.value : node.end]}")


def test_the_scanner_follows_quotes_at_the_end_of_a_text_and_dates_with_a_space() -> None:
    text = '''a = """x""""" # 1\nb = \'\'\'y\'\'\'\'\' # 2\nc = [1979-05-27 07:32:00 , ""] # 3\n'#' = """""""# 4'''
    assert {node.path[0]: text[node.value or 0 : node.end] for node in scan(text).nodes} == {
        "a": '"""x"""""',
        "b": "'''y'''''",
        "c": '[1979-05-27 07:32:00 , ""]',
        "#": '"""""""',
    }
    assert editor._comments(text) == Counter(["# 1", "# 2", "# 3", "# 4"])
    assert len(scan(text).comments) == 4


# tests: files


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


def add(name: str) -> Change:
    return Change.add(HostSpec(name))


def adding(name: str):  # type: ignore[no-untyped-def]  # a test's helper
    return lambda text: edited(text, [add(name)], "lab.toml")


def test_a_file_is_replaced_with_its_mode_and_nothing_else_is_left_in_the_folder(lab: Path) -> None:
    lab.chmod(0o640)
    inode = lab.stat().st_ino
    told: list[bytes] = []
    new = edit_file(lab, adding("a"), told.append)
    assert (lab.read_bytes(), told) == (new, [new])
    assert new.decode() == LAB + "\n[hosts.a]\n"
    assert (lab.stat().st_mode & 0o7777, os.listdir(lab.parent)) == (0o640, ["lab.toml"])
    assert lab.stat().st_ino != inode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_and_the_group_stay(lab: Path) -> None:
    os.chown(lab, 1234, 2345)
    edit_file(lab, adding("a"))
    assert (lab.stat().st_uid, lab.stat().st_gid) == (1234, 2345)


def test_a_symbolic_link_stays_and_its_target_is_replaced(lab: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.toml"
    link.symlink_to("../lab.toml")
    edit_file(link, adding("a"))
    assert (link.is_symlink(), lab.read_text()) == (True, LAB + "\n[hosts.a]\n")
    assert os.listdir(elsewhere) == ["link.toml"]


def test_a_file_of_two_hard_links_is_refused(lab: Path) -> None:
    os.link(lab, lab.with_name("twin.toml"))
    with pytest.raises(UnreachableError, match="has 2 hard links"):
        edit_file(lab, adding("a"))
    assert lab.read_text() == LAB


def test_an_edit_that_changes_nothing_writes_nothing(lab: Path) -> None:
    before = lab.stat()
    assert edit_file(lab, lambda text: text, lambda _: pytest.fail("nothing is about to be written")) == LAB.encode()
    assert (lab.stat().st_ino, lab.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_edit_starts_again_when_another_process_wrote_the_file_meanwhile(lab: Path) -> None:
    told: list[bytes] = []

    def meddle(new: bytes) -> None:
        told.append(new)
        if len(told) == 1:
            lab.write_text(LAB + "# by hand\n")

    assert edit_file(lab, adding("a"), meddle).decode() == LAB + "# by hand\n\n[hosts.a]\n"
    assert [text.decode() for text in told] == [LAB + "\n[hosts.a]\n", LAB + "# by hand\n\n[hosts.a]\n"]
    assert lab.read_bytes() == told[1]


def test_an_edit_gives_up_on_a_file_that_changes_all_the_time(lab: Path) -> None:
    def meddle(new: bytes) -> None:
        lab.write_bytes(lab.read_bytes() + b"# more\n")

    with pytest.raises(UnreachableError, match="keeps changing while it is edited"):
        edit_file(lab, adding("a"), meddle)
    assert (b"hosts.a" in lab.read_bytes(), os.listdir(lab.parent)) == (False, ["lab.toml"])


def test_a_full_disk_leaves_the_file_unchanged(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_replace.os, "fsync", full)
    with pytest.raises(UnreachableError, match=r"can't replace .*lab\.toml: No space left on device"):
        edit_file(lab, adding("a"))
    assert (lab.read_text(), os.listdir(lab.parent)) == (LAB, ["lab.toml"])


def test_a_failed_edit_leaves_the_file_unchanged_and_the_folder_unlocked(lab: Path) -> None:
    with pytest.raises(InvalidError):
        edit_file(lab, adding("node01"))
    edit_file(lab, adding("a"))
    assert lab.read_text() == LAB + "\n[hosts.a]\n"


def test_files_left_by_a_killed_edit_are_removed(lab: Path) -> None:
    (lab.parent / ".lab.toml.new").write_text("half a fi")
    edit_file(lab, adding("a"))
    assert os.listdir(lab.parent) == ["lab.toml"]


def test_an_edit_waits_for_another_one_and_reports_a_wait_that_takes_too_long(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_replace, "LOCK_PATIENCE", 0.1)

    def edit_within(text: bytes) -> bytes:
        edit_file(lab, adding("b"))
        return text

    with pytest.raises(UnreachableError, match="another edit has held"):
        edit_file(lab, edit_within)


def test_a_missing_file_or_folder_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="there is no"):
        edit_file(tmp_path / "lab.toml", adding("a"))
    with pytest.raises(UnreachableError, match="can't open"):
        edit_file(tmp_path / "nowhere" / "lab.toml", adding("a"))


EDITOR = """
import sys
from pathlib import Path
from bmhctl.domain.model import HostSpec
from bmhctl.stores.toml.editor import Change, edited
from bmhctl.stores.toml.atomic_replace import edit_file
for n in range(5):
    edit_file(Path(sys.argv[1]), lambda text: edited(text, [Change.add(HostSpec(f"p{sys.argv[2]}-{n}"))], "lab.toml"))
"""


@pytest.mark.slow
def test_processes_that_edit_at_once_lose_nothing(lab: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", EDITOR, str(lab), str(n)]) for n in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    names = {spec.name for spec in parse_declaration(lab.read_bytes(), "lab.toml").hosts}
    assert names == {"node01", "node02", "node03"} | {f"p{p}-{n}" for p in range(6) for n in range(5)}
    assert os.listdir(lab.parent) == ["lab.toml"]
