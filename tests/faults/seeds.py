"""The start of the fuzzers: for each parser, texts that it can read, and the pieces of such texts."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import Any

import tomli_w
import yaml
from hypothesis import strategies as st

from tests.cli.conftest import INVENTORY
from tests.formats.importer_samples import SAMPLES

EXPORT = """\
[export]
version = 1
at = 2026-01-01T12:00:00Z

[defaults]
ttl = "2h"
max_ttl = "none"

[reservations.r-1]
owner = "alice"
purpose = "nightly"
created_at = 2026-01-01T10:00:00Z
expires_at = 2026-01-02T10:00:00+02:00
ttl = "4h"

[hosts.node01]
address = "10.0.0.11"

[hosts.node01.lifecycle]
state = "maintenance"
since = 2026-01-01T11:00:00Z
dirty = true
came_from = "reserved"
reservation = "r-1"
fault = "PSU"
failed_cleanups = 2
used_at = 2026-01-01T10:00:00Z
cordon = { actor = "bob", reason = "x", since = 2026-01-01T11:00:00Z }

[[hosts.node01.lifecycle.maintenance]]
actor = "bob"
reason = "y"
since = 2026-01-01T11:00:00Z
until = 2026-01-03T11:00:00Z
quarantine = true

[hosts.node02.lifecycle]
state = "available"
since = 2026-01-01T11:00:00Z
"""

POLICY = """\
[defaults]
ttl = "4h"
quarantine_after = 3

[checks.ssh]
tcp = 22
timeout = "5s"
retries = 2

[checks.page]
http = { url = "http://{address}:8080/health", status = 200, text = "ok" }
selector = "gpu,rack in (r1,r2)"

[checks.bmc]
redfish = { health = "OK", power = "on" }

[cleanup.wipe]
command = ["./wipe.sh", "{address}", "{labels.rack}", "{{x}}"]
timeout = "2h"
"""

LAYOUTS = """\
# dotted keys, inline tables and quotes
hosts.node01.labels.rack = 'r1' # a comment
hosts."node02" = { note = "x", labels = { "example.org/zone" = "a" }, hardware = {} }

[hosts.node03] # another
note = \"\"\"
many "lines" \\u00e9"\"\"\"
bmc.address = '''https://10.0.0.1'''
 [ hosts . 'node04' . labels ]
a = ""
"""

MANIFEST: dict[str, Any] = {
    "apiVersion": "metal3.io/v1alpha1",
    "kind": "BareMetalHost",
    "metadata": {"name": "node01", "namespace": "lab", "labels": {"rack": "r1"}, "annotations": {"a": "{}"}},
    "spec": {
        "bmc": {"address": "redfish+https://10.0.1.11/redfish/v1/Systems/1", "credentialsName": "node01-bmc"},
        "bootMACAddress": "bc:55:85:92:de:b7",
        "consumerRef": {"kind": "Machine", "namespace": "x", "name": "m"},
        "description": "left slot",
        "online": True,
        "image": {"url": "http://x/y"},
    },
    "status": {
        "provisioning": {"state": "provisioned"},
        "operationalStatus": "OK",
        "errorType": "",
        "errorMessage": "",
        "hardware": {
            "cpu": {"arch": "x86_64", "count": 64},
            "ramMebibytes": 262144,
            "nics": [{"ip": "10.0.0.11", "mac": "bc:55:85:92:de:b7", "pxe": True}],
            "storage": [{"sizeBytes": 480103981056}],
            "systemVendor": {"manufacturer": "Acme", "productName": "X9", "serialNumber": "1"},
        },
    },
}

OTHER: dict[str, Any] = {
    "apiVersion": "metal.afritzler.github.io/v1alpha1",
    "kind": "BareMetalHost",
    "metadata": {"name": "node02"},
    "spec": {"systemId": "1", "bmc": {"address": "10.0.1.12", "type": "redfish", "secretRef": {"name": "s"}}},
    "status": {
        "state": "Available",
        "processors": [{"threads": 128, "cores": 64, "instructionSet": "x86-64"}],
        "networkInterfaces": [{"macAddress": "bc:55:85:92:de:b8"}],
        "manufacturer": "Acme",
        "model": "X9",
        "serialNumber": "2",
    },
}

HARDWARE = {
    "apiVersion": "metal3.io/v1alpha1",
    "kind": "HardwareData",
    "metadata": {"name": "node02"},
    "spec": {
        "hardware": {
            "cpu": {"arch": "x86_64", "count": 64},
            "ramMebibytes": 262144,
            "nics": [{"mac": "bc:55:85:92:de:b8", "ip": "10.0.0.12", "pxe": True}],
            "storage": [{"sizeBytes": 1073741824}],
            "systemVendor": {"manufacturer": "Acme"},
        }
    },
}

RECORDS = {
    "version": 1,
    "kind": "hosts",
    "now": "2026-01-01T00:00:00Z",
    "hosts": [
        {
            **dict.fromkeys(("purpose", "until", "note", "cordon", "fault", "came_from")),
            "name": "node03.lab.example",
            "state": "reserved",
            "flags": [],
            "since": "2026-01-01T00:00:00Z",
            "owner": "alice@lab",
            "reservation": "r-7k3m9q2x",
            "address": "10.0.0.13",
            "mac": "bc:55:85:92:de:b9",
            "labels": {"rack": "r1"},
            "hardware": {"cpus": 64},
            "bmc": {"address": "10.0.1.13", "type": None, "system_id": None, "credentials": None, "verify_tls": True},
            "dirty": True,
            "cordoned": False,
            "undeclared": False,
            "maintenance": [{"actor": "a", "reason": "b", "since": "2026-01-01T00:00:00Z", "until": None}],
            "failed_cleanups": 0,
            "used_at": "2026-01-01T00:00:00Z",
        }
    ],
}

MANIFESTS = {
    "kind": "List",
    "apiVersion": "v1",
    "items": [MANIFEST, OTHER, HARDWARE, {"kind": "Secret", "data": {"password": "aGk="}}],
}

YAML_TEXT = f"""\
# two hosts, with anchors
--- &first
{yaml.safe_dump(MANIFEST)}---
x: &labels {{rack: r1}}
kind: BareMetalHost
apiVersion: metal3.io/v1alpha1
metadata: {{name: node09, labels: {{<<: *labels, a: !!str 1}}}}
...
"""

SEEDS: dict[str, list[str]] = {
    "durations": ["1h30m", "3d", "90s", "1d2h3m4s"],
    "sizes": ["64", "2.5", "256GiB", "1 TB", "8B"],
    "selectors": ["arch=arm64,rack!=r3,gpu,!flaky,zone in (a,b),cpus>=32,memory>=64GiB", "a notin (b , c) , d"],
    "wants": ["arch=arm64*2", "role=switch", "*3", "a in (b,c) * 4"],
    "wants that are kept": ['[["arch=arm64,gpu",2],["node01"]]', "[]", '[["",1]]'],
    "ranges": ["node[01-20]", "Node[01-20].lab.example", "rack[1-2]-node[1,3,5]", "node01 node02", "rack1-*"],
    "times": ["2h", "2026-12-24T18:00", "2026-12-24", "2026-12-24 18:00:00.5+01:00", "2026-W40-2"],
    "lists of options": ["rack=r1 gpu- a=", "a=b c=d"],
    "BMC addresses": [
        "redfish+https://10.0.1.11:8443/redfish/v1/Systems/1",
        "idrac-virtualmedia://[fd00::1]:443/gate/redfish/v1",
        "bmc.lab.example",
        "ipmi://10.0.0.1",
    ],
    "facts of a host": ["10.0.0.1", "fe80::1%eth0", "node01.lab.example.", "fd00::1"],
    "fingerprints": [f"1 2 3 4 1 {'0a' * 32}"],
    "declarations": [INVENTORY, LAYOUTS, POLICY],
    "edits of declarations": [INVENTORY, LAYOUTS, LAYOUTS + POLICY],
    "policies": [POLICY],
    "exports": [EXPORT, LAYOUTS + POLICY],
    "manifests in YAML": [YAML_TEXT, yaml.safe_dump(MANIFESTS), json.dumps(MANIFESTS)],
    "manifests in YAML without libyaml": [YAML_TEXT, yaml.safe_dump(MANIFESTS)],
    "manifests in JSON": [
        json.dumps(MANIFESTS, indent=1),
        json.dumps(MANIFEST) + json.dumps(OTHER),
        json.dumps(RECORDS, indent=1),
    ],
    "imports of any kind": [YAML_TEXT, json.dumps(MANIFEST), json.dumps(RECORDS), EXPORT, "# x\n\n" + INVENTORY],
    **{f"imports from {name}": [text] for name, text in SAMPLES.items()},
}

_TOML = ["[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "'''", "=", ".", ",", "#", "\\", "\\u0000", "\\ud800", "inf"]
_TOML += ["1979-05-27", "07:32:00Z", "0x", "1_0", "true", "[hosts.node01]", "[hosts]\n", "note", "hosts.", "a.b.c="]
_LINES = ["lease 10.0.0.1 {", "}", "[a:b]", "[x:vars]\n", "[x:children]\nx\n", "::1 h", "infinite", ";", "|", '""', "="]
_LINES += ["[1:99999999]", "dhcp-host=", "52:54:00:00:00:01", "h1[01:10][a:z]", "ansible_host=", "name,", '"a\nb"']
_YAML = [
    "- ",
    "? ",
    ": ",
    ":",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "<<: ",
    "!!str ",
    "!!int ",
    "!!binary ",
    "!x ",
]
_YAML += [
    "!!python/object:os.system ",
    "|",
    ">",
    "|9",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "'",
    '"',
    "\\U00110000",
    "#",
    "~",
]
_YAML += ["kind: Secret\n", "yes", "0o7", "1e999", ".nan", "\t", "  "]
_JSON = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "1e999",
    "NaN",
    "-Infinity",
    "null",
    "\\ud800",
    "\\",
    "-",
    "1" * 4400,
    "true",
]

PIECES: dict[str, list[str]] = {
    "durations": ["1", "9" * 9, "0", "36500", "d", "h", "m", "s", "-", ".", "+"],
    "sizes": ["1", "9" * 20, "0", ".", "K", "G", "E", "i", "B", "e", "-"],
    "selectors": [
        "a",
        "gpu",
        "example.org/b",
        "64GiB",
        "=",
        "==",
        "!=",
        "!",
        ">=",
        "<",
        "in",
        "notin",
        "(",
        ")",
        ",",
        "*",
    ],
    "wants": ["a", "b", "=", "!", "in", "(", ")", ",", "*", "2", "0", "9" * 10, "> 1"],
    "wants that are kept": ["[", "]", '"', ",", "1", "a=b", "node01", "true", "null", "{", "}", "1.5", "-1", "1e999"],
    "ranges": [
        "node",
        "n",
        "[",
        "]",
        "1",
        "01",
        "9",
        "-",
        ",",
        "*",
        "?",
        "1-2",
        "[1-3]",
        "[01-02]",
        "99999",
        "@",
        "&",
        "^",
    ],
    "times": ["2026", "-", "12", "24", "T", ":", "00", "Z", "+", ".", "W", "h", "d", "9999", "0001"],
    "lists of options": ["a", "=", "-", ",", "b", "none", "1h"],
    "BMC addresses": [
        "http",
        "redfish",
        "+",
        "://",
        "//",
        "/",
        ":",
        "[",
        "]",
        "@",
        "%25",
        "?",
        "#",
        "10.0.0.1",
        "::1",
        "a",
        ".",
    ],
    "facts of a host": ["10", ".", ":", "fd00", "::", "%", "a", "-", "_", "/"],
    "fingerprints": ["1", " ", "-", "0", "9" * 21, "a" * 64],
    "declarations": _TOML,
    "edits of declarations": _TOML,
    "policies": _TOML,
    "exports": _TOML,
    "manifests in YAML": _YAML,
    "manifests in YAML without libyaml": _YAML,
    "manifests in JSON": _JSON,
    "imports of any kind": [*_TOML, *_YAML],
    **{f"imports from {name}": [*_YAML, *_LINES] for name in SAMPLES},
}

_EVERYWHERE = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\ufeff",
    "\u0663",
    "\u2028",
    "\u202e",
    "\x1b[31m",
    "\ud800",
    "\udcff",
]
_EVERYWHERE += ["\U0010ffff", "9" * 5000, "1" * 65]

VALUES: list[object] = [
    None,
    True,
    0,
    -1,
    2**53,
    2**63,
    10**4000,
    1.5,
    float("inf"),
    float("nan"),
    "",
    " ",
    "1h",
    "\ud800",
]
VALUES += [
    "x" * 1001,
    "\x1b[31m",
    "available",
    "reserved",
    "node01",
    "a=b",
    "10.0.0.1",
    [],
    {},
    [[]],
    {"a": {}},
    ["a", 1],
]


@cache
def pieces(name: str) -> st.SearchStrategy[str]:
    """Texts made of pieces of the parser's language, and of pieces that are in no language.

    It is built once, because Hypothesis checks each strategy at its first use, which takes longer than to draw from it.
    """
    own = st.sampled_from(PIECES[name])
    return st.lists(own | own | own | st.sampled_from(_EVERYWHERE) | st.text(max_size=3), max_size=16).map("".join)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> str:
    """A text that the parser can read, with some characters removed, repeated, or replaced by pieces."""
    text = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        repeated = ["", text[start:end] * 2, text[end : end + 40]]
        which = draw(st.integers(0, len(repeated)))
        new = repeated[which] if which < len(repeated) else draw(pieces(name))
        text = text[:start] + new + text[end:]
    return text


@st.composite
def torn(draw: st.DrawFn, name: str) -> bytes:
    """The bytes of a mutated text, some of them replaced, so that they are not text in any encoding."""
    data = draw(st.sampled_from(SEEDS[name])).encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[start + draw(st.integers(0, 4)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data


_values: st.SearchStrategy[Any] = st.sampled_from(VALUES) | st.text(max_size=8) | st.integers()


@st.composite
def bent(draw: st.DrawFn, tree: object) -> Any:
    """A copy of a tree in which some values are replaced, removed or moved."""
    copy: Any = json.loads(json.dumps(tree, default=str))
    for _ in range(draw(st.integers(1, 4))):
        node = copy
        while isinstance(node, dict | list) and node:
            key: Any = draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
            inner = node[key]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
                node = inner
                continue
            what = draw(st.integers(0, 5))
            if what == 0:
                del node[key]
            elif what == 1 and isinstance(node, dict):
                node[draw(st.sampled_from(["", "kind", "a" * 300, "\ud800", "<<", "password", "Name"]))] = inner
            else:
                node[key] = deepcopy(draw(_values))
            break
    return copy


def bent_toml(text: str) -> st.SearchStrategy[str]:
    """A TOML text in which some values are replaced."""
    import tomllib

    return bent(tomllib.loads(text)).map(_dumped)


def _dumped(tree: dict[str, Any]) -> str:
    try:
        return tomli_w.dumps({key: value for key, value in tree.items() if value is not None})
    except (TypeError, ValueError):  # values that TOML can't express
        return ""


def bent_manifests() -> st.SearchStrategy[str]:
    """Manifests in which some values are replaced, as JSON or YAML."""
    trees = st.sampled_from([MANIFEST, OTHER, MANIFESTS]).flatmap(bent)
    return trees.map(json.dumps) | trees.map(lambda tree: yaml.safe_dump(tree, allow_unicode=False))


def inputs(name: str, *, of_files: bool) -> st.SearchStrategy[Any]:
    """Mutated, torn, bent and composed inputs for one parser, in the type that it takes."""
    if not of_files:
        return pieces(name) | mutated(name) | st.text(st.characters(codec=None), max_size=30)
    whole: st.SearchStrategy[str] = mutated(name) | pieces(name)
    if "manifests" in name or "any" in name:
        whole |= bent_manifests()
    if name.startswith("imports from"):
        trees = st.sampled_from(SEEDS[name]).filter(lambda text: text[0] in "{[").map(json.loads).flatmap(bent)
        return whole.map(_encoded) | (trees.map(json.dumps).map(_encoded) if SEEDS[name][0][0] in "{[" else torn(name))
    if "manifests" not in name:
        whole |= st.sampled_from(SEEDS[name]).filter(_is_toml).flatmap(bent_toml)
    return whole.map(_encoded) | torn(name) | st.binary(max_size=60)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_toml(text: str) -> bool:
    return "\n[" in f"\n{text}"
