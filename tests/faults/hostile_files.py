"""Files that are made to break parsers: bombs, deep nesting, and features of formats that no inventory needs."""

from __future__ import annotations

import gzip
import os
import zlib

from tests.faults.hostile_texts import DEEP, Made

IS_WHOLE = float(os.environ.get("BMHCTL_TEST_SCALE", "0.05")) >= 1

BIG = 1_000_000 if IS_WHOLE else 125_000
"""The number of characters of a large file: a parser with quadratic time would never end."""

MANY = 100_000 if IS_WHOLE else 12_500
"""The number of repetitions of short texts."""

REPEATED = 1_000_000
"""The characters of a text that aliases repeat: at any scale, all copies of it are more than the memory."""

_LIFE = '[hosts.a.lifecycle]\nstate = "initial"\nsince = '

TOML: dict[str, Made] = {
    "nothing": lambda: "",
    "a byte order mark": lambda: "\ufeff[hosts.a]\n",
    "UTF-16": lambda: "[hosts.a]\n".encode("utf-16"),
    "bytes that are not text": lambda: b"[hosts.a]\nnote = '\xff\xfe'\n",
    "NUL": lambda: "[hosts.a]\nnote = 'a\0'\n",
    "NUL, escaped": lambda: '[hosts.a]\nnote = "a\\u0000"\n',
    "a surrogate, escaped": lambda: '[hosts.a]\nnote = "\\ud800"\n',
    "beyond all characters": lambda: '[hosts.a]\nnote = "\\UFFFFFFFF"\n',
    "Windows' line ends": lambda: "[hosts.a]\r\nnote = 'a'\r\n",
    "carriage returns": lambda: "[hosts.a]\rnote = 'a'\r",
    "an array 100,000 deep": lambda: "x = " + "[" * DEEP,
    "an array 100,000 deep and closed": lambda: "x = " + "[" * DEEP + "]" * DEEP,
    "a table 100,000 deep": lambda: "x = " + "{a=" * DEEP,
    "an array just not too deep": lambda: "x = " + "[" * 300 + "]" * 300,
    "a command just not too deep": lambda: "[checks.a]\ncommand = " + "[" * 300 + "]" * 300,
    "a table just not too deep": lambda: "[hosts.a]\nlabels = " + "{a=" * 150 + "1" + "}" * 150,
    "a key of 10,000 parts": lambda: ".".join("a" * 10_000) + " = 1",
    "a key of 100,000 parts": lambda: ".".join("a" * DEEP) + " = 1",
    "a key of 100,000 quoted parts": lambda: " . ".join(["'a'", '"b"', '""'] * (DEEP // 3)) + " = 1",
    "a header of 100,000 parts": lambda: "[" + ".".join("a" * DEEP) + "]",
    "an array of tables of 100,000 parts": lambda: "[[" + ".".join("a" * DEEP) + "]]",
    "an inline key of 100,000 parts": lambda: "x = { " + ".".join("a" * DEEP) + " = 1 }",
    "a host of 20,000 parts": lambda: "[hosts.a]\nlabels." + ".".join("a" * 20_000) + " = 'x'",
    "a policy of 20,000 parts": lambda: "[checks]\n" + ".".join("a" * 20_000) + " = 'x'",
    "long keys in many tables": lambda: "\n".join(f"[{'.'.join('a' * 60)}.b{n}]" for n in range(MANY // 50)),
    "long keys in arrays": lambda: "x = [" + f"{{ {'.'.join('a' * 60)} = 1 }}," * (MANY // 50) + "]",
    "dots in a text": lambda: "[hosts.a]\nnote = '" + "1.2." * 200 + "= [x] '",
    "dots in a comment": lambda: "[hosts.a] # " + "a." * DEEP + "b = ]\n",
    "a number of 5,000 digits": lambda: "[hosts.a.hardware]\ncpus = " + "9" * 5000,
    "a number of many digits": lambda: "[hosts.a.hardware]\ncpus = " + "9" * BIG,
    "a hexadecimal number of many digits": lambda: "[hosts.a.hardware]\ncpus = 0x" + "f" * BIG,
    "a number that is repeated in the error": lambda: "[hosts.a]\naddress = 0x" + "f" * 5000,
    "a number as wide as 64 bits": lambda: "[hosts.a.hardware]\ncpus = 9223372036854775808",
    "no number": lambda: "[hosts.a.hardware]\ncpus = nan",
    "infinite": lambda: "[hosts.a.hardware]\ncpus = inf",
    "too large a fraction": lambda: "[hosts.a.hardware]\ncpus = 1e999",
    "a date for a text": lambda: "[hosts.a]\naddress = 1979-05-27",
    "a time for a text": lambda: "[hosts.a]\nnote = 07:32:00",
    "a moment for a text": lambda: "[checks.a]\ntcp = 22\ntimeout = 1979-05-27T07:32:00Z",
    "no such date": lambda: "[hosts.a]\nnote = 2026-13-41",
    "the first moment": lambda: f"{_LIFE}0001-01-01T00:00:00+23:59",
    "the last moment": lambda: f"{_LIFE}9999-12-31T23:59:59-23:59",
    "a moment without a zone": lambda: f"{_LIFE}2026-01-01T00:00:00",
    "a day for a moment": lambda: f"{_LIFE}2026-01-01",
    "a time for a moment": lambda: f"{_LIFE}12:00:00",
    "a version that is none": lambda: "[export]\nversion = nan",
    "the same key twice": lambda: "[hosts.a]\nnote = 'a'\nnote = 'b'\n",
    "the same table twice": lambda: "[hosts.a]\n[hosts.a]\n",
    "a key of very many letters": lambda: f"[hosts.a]\n{'a' * BIG} = 1",
    "a table of very many letters": lambda: f"['{'a' * BIG}']",
    "a host of very many letters": lambda: f"[hosts.{'a' * BIG}]",
    "a label of very many letters": lambda: f"[hosts.a.labels]\n{'a' * BIG} = 'x'",
    "a BMC's key of very many letters": lambda: f"[hosts.a.bmc]\n{'a' * BIG} = 'x'",
    "a note of very many letters": lambda: f"[hosts.a]\nnote = '{'a' * BIG}'",
    "a placeholder of very many letters": lambda: f"[checks.a]\ncommand = ['{{{'a' * BIG}}}']",
    "a state of very many letters": lambda: f"[hosts.a.lifecycle]\nstate = '{'a' * BIG}'",
    "a reservation of very many letters": lambda: f"{_LIFE}2026-01-01T00:00:00Z\nreservation = '{'a' * BIG}'",
    "a ttl of very many letters": lambda: f"[reservations.r]\nttl = '{'9' * BIG}'",
    "an address of very many letters": lambda: f"[hosts.a]\naddress = '{'a-' * (BIG // 2)}'",
    "a BMC of very many letters": lambda: f"[hosts.a]\nbmc = {{ address = 'https://{'a.' * (BIG // 2)}/' }}",
    "a check of very many letters": lambda: f"[checks.{'a' * BIG}]\ntcp = 0",
    "a selector of blanks": lambda: f"[checks.a]\ntcp = 22\nselector = 'a{' ' * BIG};'",
    "a selector of many terms": lambda: f"[checks.a]\ntcp = 22\nselector = '{'a,' * (BIG // 2)}'",
    "a timeout of many digits": lambda: f"[checks.a]\ntcp = 22\ntimeout = '{'9' * BIG}'",
    "a page that backtracks": lambda: f"[checks.a]\nhttp = 'https://{'a' * BIG} '",
    "braces": lambda: f"[checks.a]\ncommand = ['{'{' * BIG}']",
    "many escapes": lambda: '[hosts.a]\nnote = """' + "\\t" * MANY + '"""',
    "many quotes": lambda: '[hosts.a]\nnote = """' + '""\\t' * MANY + '"""',
    "a command of many escapes": lambda: '[checks.a]\ncommand = ["""' + "\\t" * MANY + '"""]',
    "a command of many quotes": lambda: '[checks.a]\ncommand = ["""' + '""\\t' * MANY + '"""]',
    "a command of very many letters": lambda: f"[checks.a]\ncommand = ['{'a' * BIG}', '''{'a' * BIG}''']",
    "a command of many arguments": lambda: "[checks.a]\ncommand = [" + '"a",' * MANY + "]",
    "an unterminated text": lambda: '[hosts.a]\nnote = """' + '\\"""' * MANY,
    "an unterminated line": lambda: "\n".join(['a."' + "b." * 100] * (MANY // 10)),
    "many spaces": lambda: " " * BIG + "x",
    "many comments": lambda: "# a\n" * MANY + "x",
    "a comment of very many letters": lambda: "#" * BIG,
    "many lines": lambda: "\n" * BIG + "x",
    "many hosts that are wrong": lambda: "".join(f"[hosts.h{n}]\n" for n in range(MANY // 2)) + "[hosts.x]\nadress=1\n",
    "inline hosts": lambda: "hosts = { " + ", ".join(f"h{n} = {{}}" for n in range(MANY // 5)) + " }",
    "twins": lambda: "".join(f"[hosts.h{n}]\naddress = '10.0.0.1'\n" for n in range(MANY // 10)),
}

_HOST = "apiVersion: metal3.io/v1alpha1\nkind: BareMetalHost\nmetadata:\n  name: a\n"
_HEAD = '{"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "a"'


def _laughs(kind: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]" if kind == "list" else "a0: &a0 {k: x}"]
    for n in range(1, 12):
        many = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} [{many}]" if kind == "list" else f"a{n}: &a{n} {{<<: [{many}], k{n}: x}}")
    return "\n".join(lines)


YAML: dict[str, Made] = {
    "a billion laughs": lambda: _laughs("list"),
    "a billion laughs by merging": lambda: _laughs("mapping"),
    "a cycle": lambda: "a: &a [*a]",
    "a cycle of mappings": lambda: "&a {a: *a}",
    "a cycle of merging": lambda: "&a {<<: *a}",
    "itself": lambda: "*a",
    "an alias of another document": lambda: "--- &a x\n--- *a\n",
    "many aliases": lambda: "a: &a x\nb: [" + "*a," * MANY + "]",
    "aliases of a long text": lambda: (
        f"- &t {'x' * REPEATED}\n" + "".join(f"- {{kind: X, metadata: {{name: *t, n: {n}}}}}\n" for n in range(20_000))
    ),
    "descriptions of aliases": lambda: (
        f"- kind: X\n  x: &t {'xxxxxxxxx ' * (REPEATED // 10)}\n"
        + "".join(
            "- {apiVersion: metal3.io/v1alpha1, kind: BareMetalHost, "
            f"metadata: {{name: h{n}}}, spec: {{description: *t}}}}\n"
            for n in range(2500)
        )
    ),
    "statuses of aliases": lambda: (
        '- kind: X\n  x: &t \'{"a": ['
        + "1," * (REPEATED // 2)
        + "1]}'\n"
        + "".join(
            "- {apiVersion: metal3.io/v1alpha1, kind: BareMetalHost, "
            f"metadata: {{name: h{n}, annotations: {{baremetalhost.metal3.io/status: *t}}}}}}\n"
            for n in range(5000)
        )
    ),
    "merges of a large mapping": lambda: (
        "a: &a {"
        + ",".join(f"k{n}: x" for n in range(2000))
        + "}\n"
        + "".join(f"b{n}: {{<<: *a}}\n" for n in range(5000))
    ),
    "a list 100,000 deep": lambda: "[" * DEEP,
    "a list 100,000 deep and closed": lambda: "[" * DEEP + "]" * DEEP,
    "a mapping 100,000 deep": lambda: "{a: " * DEEP,
    "dashes 100,000 deep": lambda: "- " * DEEP + "x",
    "keys 100,000 deep": lambda: "? " * DEEP + "x",
    "lists 3,000 deep by indent": lambda: "".join(" " * n + "a:\n" for n in range(3000)),
    "lists of manifests 90 deep": lambda: "{kind: List, items: [" * 45 + "x" + "]}" * 45,
    "tabs": lambda: "\t" * 10_000 + "a: b",
    "a secret": lambda: "apiVersion: v1\nkind: Secret\ndata: &d {password: aGk=}\nstringData: *d\n",
    "objects": lambda: "!!python/object/apply:os.system ['echo hi']",
    "a module": lambda: "a: !!python/module:os x",
    "a tag that is not text": lambda: "!%ff%fe x",
    "a tag of 100,000 letters": lambda: f"!{'a' * DEEP} x",
    "a set": lambda: "!!set {a, b}",
    "pairs": lambda: "!!omap [a: b]",
    "binary": lambda: _HOST + "spec:\n  description: !!binary //79\n",
    "a date": lambda: _HOST.replace("name: a", "name: 2026-01-01"),
    "a date that is tagged": lambda: _HOST + "spec:\n  description: !!timestamp 2026-99-99\n",
    "a number that is tagged": lambda: _HOST + f"spec:\n  description: !!int {'9' * 5000}\n",
    "the same key twice": lambda: _HOST + "kind: Secret\n",
    "a key that is a list": lambda: "? [a, b]\n: c",
    "a key that is an alias": lambda: "a: &a [x]\n*a : y",
    "an escape beyond all characters": lambda: _HOST + 'spec:\n  description: "\\UFFFFFFFF"\n',
    "an escape of half a pair": lambda: _HOST + 'spec:\n  description: "\\uD800"\n',
    "a directive of 5,000 digits": lambda: f"%YAML 1.{'9' * 5000}\n--- a\n",
    "a directive of 20 digits": lambda: "%YAML 99999999999999999999.1\n--- a\n",
    "a directive of another tag": lambda: "%TAG ! tag:yaml.org,2002:python/\n--- !object:x {}\n",
    "an anchor of 100,000 letters": lambda: f"&{'a' * DEEP} x",
    "an alias of 100,000 letters": lambda: f"*{'a' * DEEP}",
    "a block of 5,000 digits": lambda: f"a: |{'9' * 5000}\n x",
    "many documents": lambda: "--- x\n" * DEEP,
    "many documents of nothing": lambda: "---\n" * MANY,
    "many brackets that close": lambda: "]" * DEEP,
    "many questions": lambda: "?\n" * 20_000,
    "many colons": lambda: ":" * DEEP,
    "many commas": lambda: "[" + "," * DEEP,
    "a line of very many letters": lambda: "a" * BIG + ": b",
    "many spaces": lambda: " " * BIG + "[x",
    "many comments": lambda: "# a\n" * MANY + "[x",
    "UTF-16": lambda: _HOST.encode("utf-16"),
    "half of UTF-16": lambda: _HOST.encode("utf-16")[:-1],
    "UTF-16 with half a pair": lambda: b"\xff\xfe\x00\xd8",
    "UTF-32": lambda: _HOST.encode("utf-32"),
    "a byte order mark": lambda: "\ufeff" + _HOST,
    "byte order marks": lambda: "\ufeff" * 3 + _HOST,
    "NUL": lambda: _HOST + "\0",
    "bytes that are not text": lambda: b"a: \xff",
    "carriage returns": lambda: _HOST.replace("\n", "\r"),
    "no character": lambda: _HOST + "x: \ufffe\n",
}

JSON: dict[str, Made] = {
    "a list 100,000 deep": lambda: "[" * DEEP,
    "a list 100,000 deep and closed": lambda: "[" * DEEP + "]" * DEEP,
    "an object 100,000 deep": lambda: '{"a":' * DEEP,
    "a list 900 deep": lambda: "[" * 900 + "]" * 900,
    "lists of manifests 900 deep": lambda: '{"kind": "List", "items": [' * 400 + "]}" * 400,
    "infinite": lambda: _HEAD + '}, "status": {"hardware": {"ramMebibytes": 1e999}}}',
    "not a number": lambda: _HEAD + '}, "status": {"hardware": {"ramMebibytes": NaN}}}',
    "less than infinite": lambda: _HEAD + '}, "status": {"hardware": {"cpu": {"count": -Infinity}}}}',
    "a number of 5,000 digits": lambda: _HEAD + '}, "x": ' + "9" * 5000 + "}",
    "a number of 4,000 digits": lambda: _HEAD + '}, "status": {"hardware": {"ramMebibytes": ' + "9" * 4000 + "}}}",
    "a fraction of many digits": lambda: "[0." + "9" * BIG + "]",
    "half a pair": lambda: _HEAD + '}, "spec": {"description": "\\ud800"}}',
    "half a pair for a kind": lambda: '{"kind": "\\ud800"}',
    "half a pair for a name": lambda: _HEAD.replace('"a"', '"\\udfff"') + "}}",
    "half a pair for a label": lambda: _HEAD + ', "labels": {"\\ud800": "x"}}}',
    "half a pair for an annotation": lambda: (
        _HEAD + ', "annotations": {"baremetalhost.metal3.io/status": "\\"\\\\ud800\\""}}}'
    ),
    "an abyss in an annotation": lambda: (
        _HEAD + ', "annotations": {"baremetalhost.metal3.io/status": "' + "[" * DEEP + '"}}}'
    ),
    "a number of 5,000 digits in an annotation": lambda: (
        _HEAD + ', "annotations": {"baremetalhost.metal3.io/status": "' + "9" * 5000 + '"}}}'
    ),
    "the same key twice": lambda: '{"kind": "Secret", "kind": "BareMetalHost"}',
    "a key of very many letters twice": lambda: f'{{"{"a" * BIG}": 1, "{"a" * BIG}": 2}}',
    "a kind of very many letters": lambda: f'{{"kind": "{"a" * BIG}"}}',
    "a kind that is deep": lambda: '{"kind": ' + "[" * 900 + "]" * 900 + "}",
    "a version that is deep": lambda: '{"kind": "BareMetalHost", "apiVersion": ' + "[" * 900 + "]" * 900 + "}",
    "a state of very many letters": lambda: _HEAD + f'}}, "status": {{"provisioning": {{"state": "{"a" * BIG}"}}}}}}',
    "a label of very many letters": lambda: _HEAD + f', "labels": {{"{"a" * BIG}": 1}}}}}}',
    "a value of very many letters": lambda: _HEAD + f', "labels": {{"a": "{"a" * BIG}"}}}}}}',
    "an address of very many letters": lambda: _HEAD + f'}}, "spec": {{"bmc": {{"address": "{"a." * BIG}"}}}}}}',
    "a description of very many letters": lambda: _HEAD + f'}}, "spec": {{"description": "{"a " * BIG}"}}}}',
    "a variable of very many words": lambda: f'{{"all": {{"hosts": {{"a": {{"{"-bmc" * BIG}!": 1}}}}}}}}',
    "an unterminated text": lambda: '["' + "a" * BIG,
    "many escapes": lambda: '["' + "\\n" * MANY + '"]',
    "many documents": lambda: '{"kind": "X"}' * (MANY // 2),
    "a long list": lambda: "[" + "1," * MANY + "1]",
    "many spaces": lambda: " " * BIG + "[",
    "trailing commas": lambda: "[1,]",
    "Windows' line ends": lambda: _HEAD.replace(" ", "\r\n") + "}}",
    "a byte order mark": lambda: "\ufeff" + _HEAD + "}}",
    "bytes that are not text": lambda: b'["\xff"]',
    "UTF-16": lambda: (_HEAD + "}}").encode("utf-16"),
    "NUL": lambda: '["\\u0000", "\0"]',
    "control characters": lambda: '["\x1b[31m"]',
}


def _zeroes() -> bytes:
    """Return 300 MiB of zeroes in a gzip file without an end: one block of 10 MiB is compressed and repeated."""
    compress = zlib.compressobj(1, wbits=-15)
    return gzip.compress(b"")[:10] + (compress.compress(bytes(10 * 2**20)) + compress.flush(zlib.Z_FULL_FLUSH)) * 30


LINES: dict[str, Made] = {
    "many spaces": lambda: " " * BIG,
    "many empty lines": lambda: "\n" * BIG,
    "many comments": lambda: "# a\n" * (BIG // 4),
    "a heading of commas": lambda: "," * BIG,
    "a heading of names": lambda: "name," * 20_000,
    "a long cell": lambda: "name,a\nx," + "y" * BIG,
    "a quote without an end": lambda: 'name,a\n"' + "x\n" * 100_000,
    "many lines": lambda: "name,a\n" + "x\n" * MANY,
    "brackets": lambda: "[" * BIG,
    "a range of many hosts": lambda: "[a]\nn[1:99999999]\n",
    "ranges of many hosts": lambda: "[a]\nn[1:999][1:999][1:999][1:999]\n",
    "a range without a step": lambda: "[a]\nn[1:9:0]\n",
    "many ranges": lambda: "[a]\n" + "[1:1]" * 20_000 + "\n",
    "a circle of groups": lambda: "[a:children]\nb\n[b:children]\na\n[a]\nx\n",
    "groups 2,000 deep": lambda: "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(2000)) + "[g2000]\nx\n",
    "leases without an end": lambda: "lease 10.0.0.1 {\n" * 50_000,
    "ends without a lease": lambda: "lease 10.0.0.1 {\n}\n" + "}\n" * 2 * MANY,
    "a lease of many lines": lambda: "lease 10.0.0.1 {\n" + "  set a = b;\n" * MANY + "}\n",
    "a name of quotes": lambda: 'lease 10.0.0.1 {\n  client-hostname "' + '\\"' * 100_000 + ";\n}\n",
    "comments without an end": lambda: '{"Dhcp4": ' + "/* " * (BIG // 3),
    "a text of quotes": lambda: '{"Dhcp4": "' + '\\"' * (BIG // 2),
    "colons": lambda: ":" * BIG,
    "an address of colons": lambda: ":" * BIG + " a",
    "digits": lambda: "9" * BIG + " 52:54:00:00:00:01 10.0.0.1 a b",
    "NUL": lambda: "10.0.0.1 a\0b\n",
}

COMPRESSED: dict[str, Made] = {
    "half a compressed file": lambda: b"\x1f\x8b\x08\0\0\0\0\0",
    "a compressed file of nothing but zeroes": _zeroes,
}
