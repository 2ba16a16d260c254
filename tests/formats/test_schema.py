"""The JSON Schema accepts and refuses the same inventories as the parser, as far as a schema can."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from bmhctl.errors import InvalidError
from bmhctl.formats.schema import inventory_schema
from bmhctl.stores.toml.declaration import parse_declaration
from bmhctl.usecases.inventories import TEMPLATE
from tests.cli.conftest import INVENTORY
from tests.domain import test_policy
from tests.faults.seeds import LAYOUTS, POLICY
from tests.programs import needs
from tests.stores.toml import test_declaration

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]

BEYOND = (".selector", "there is no [", "need each other in a circle", "longer than defaults.max_ttl")
"""Texts of errors that a schema can't express, because they concern several places or another grammar."""


@cache
def validator() -> Draft202012Validator:
    """The schema of an inventory."""
    from jsonschema import Draft202012Validator  # only here: it takes long, and each worker imports every test

    return Draft202012Validator(inventory_schema())


def rejected_policies() -> Iterator[Any]:
    for name in dir(test_policy):
        for mark in getattr(getattr(test_policy, name), "pytestmark", ()):
            if mark.name == "parametrize" and "document" in mark.args[0]:
                yield from (row[0] for row in mark.args[1])


def rejected_texts() -> Iterator[str]:
    for name in dir(test_declaration):
        for mark in getattr(getattr(test_declaration, name), "pytestmark", ()):
            if mark.name == "parametrize" and "text" in mark.args[0]:
                yield from (found for row in mark.args[1] if isinstance(found := _first(row), str))


def _first(row: Any) -> Any:
    values = getattr(row, "values", row)
    return values[0] if isinstance(values, tuple) else values


def documents() -> Iterator[dict[str, Any]]:
    yield from rejected_policies()
    for text in rejected_texts():
        try:
            yield tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError):
            continue  # a text that is not TOML is not validated with the schema


def refusal(document: dict[str, Any]) -> str | None:
    try:
        parse_declaration(tomli_w.dumps(document).encode(), "lab.toml")
    except InvalidError as error:
        return error.message
    except RecursionError:  # tomli_w can't write such deep nesting, and no validator could read it
        return None
    return None


def test_the_schema_refuses_what_the_parser_refuses_as_far_as_a_schema_can() -> None:
    refused = [(document, said) for document in documents() if (said := refusal(document)) is not None]
    assert len(refused) > 30
    for document, said in refused:
        if validator().is_valid(document):
            assert any(words in said for words in BEYOND), (document, said)


def test_a_new_inventory_fits_into_80_columns() -> None:
    assert max(map(len, TEMPLATE.splitlines())) <= 80


@pytest.mark.parametrize("text", [INVENTORY, LAYOUTS, POLICY, (ROOT / "examples" / "lab.toml").read_text(), TEMPLATE])
def test_the_schema_accepts_every_document_that_the_parser_accepts(text: str) -> None:
    parse_declaration(text.encode(), "lab.toml")
    validator().validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        'checks = { a = { command = ["./a", "{address}", "{{x}}", "{labels.rack}", "{", "}", "{}"] } }',
        'setup = { a = { command = ["a"], needs = [] }, b = { tcp = 1, needs = ["a"] } }',
        'prepare = { a = { command = ["a", "{param.image}"], params = { image = { pattern = "[a-z]+" } } } }',
        'cleanup = { a = { redfish = { power = "cycle", boot_once = "pxe" }, retries = 3, timeout = "1h30m" } }',
        'retire = { a = { redfish = { reset = "Nmi", eject = true, insert = "http://a/{name}.iso" } } }',
        'limits = { a = { owner = "intern-*", selector = "gpu", max_hosts = 4, max_ttl = "6h", max_ahead = "14d" } }',
        'defaults = { ttl = "none", max_ttl = "none", proxy = "http://proxy:3128", bmc_parallel = 2 }',
        'hosts = { a = { hardware = { cpus = 1, x = "y" }, labels = { "a.b/c" = "" }, mac = "52-54-00-00-00-01" } }',
        "hosts = { a = { bmc = { address = '[fd00::1]:8000', verify_tls = false, tls_min_version = '1.0' } } }",
    ],
)
def test_the_schema_has_every_key_of_the_parser(text: str) -> None:
    parse_declaration(text.encode(), "lab.toml")
    validator().validate(tomllib.loads(text))


def test_the_schema_is_a_valid_json_schema() -> None:
    validator().check_schema(inventory_schema())


def patterns(schema: object) -> Iterator[str]:
    pending = [schema]
    for value in pending:
        if isinstance(value, dict):
            yield from value.get("patternProperties", ())
            if isinstance(pattern := value.get("pattern"), str):
                yield pattern
            pending += value.values()
        elif isinstance(value, list):
            pending += value


@needs("node")
def test_every_pattern_is_a_regular_expression_of_javascript() -> None:
    found = sorted(set(patterns(inventory_schema())))
    code = 'for (const each of JSON.parse(require("fs").readFileSync(0))) new RegExp(each, "u")'
    done = subprocess.run(["node", "-e", code], input=json.dumps(found), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(found) > 10
