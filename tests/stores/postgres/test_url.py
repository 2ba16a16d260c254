"""The URL of an inventory on a server: read as libpq reads it, or refused; and never shown with its password."""

from __future__ import annotations

import re
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from bmhctl.errors import UsageError
from bmhctl.stores.locations import is_on_server, resolve
from bmhctl.stores.postgres.url import SCHEMA, Address
from bmhctl.support.redact import without_secrets

SECRET = "geheim"


@pytest.mark.parametrize(
    ("url", "schema", "rest"),
    [
        ("postgresql://h/db", SCHEMA, "postgresql://h/db"),
        ("postgresql://h/db?schema=lab", "lab", "postgresql://h/db"),
        ("postgresql://h/db?schema=lab&a=b", "lab", "postgresql://h/db?a=b"),
        ("postgresql://h/db?a=b&schema=lab", "lab", "postgresql://h/db?a=b"),
        ("postgresql://h/db?a=b&schema=lab&c=d", "lab", "postgresql://h/db?a=b&c=d"),
        ("postgresql://?schema=lab", "lab", "postgresql://"),
        ("postgresql:///?schema=lab&service=x", "lab", "postgresql:///?service=x"),
        ("postgresql://h?schema=Lab_1-x", "Lab_1-x", "postgresql://h"),
        ("postgresql://h?schema=l%61b", "lab", "postgresql://h"),
        ("postgresql://h?schema=" + "a" * 63, "a" * 63, "postgresql://h"),
        ("postgresql://schema=lab@h?a=schema%3Dlab", SCHEMA, "postgresql://schema=lab@h?a=schema%3Dlab"),
    ],
)
def test_the_schema_is_removed_from_any_place_in_the_url(url: str, schema: str, rest: str) -> None:
    address = Address.parse(url)
    assert (address.schema, address.url) == (schema, rest)
    assert Address.parse(address.location) == address == Address.parse(address.shown)


@pytest.mark.parametrize(
    "name", ["", 'a"b', "a%22b", "a b", "ä", "1st", "a.b", "a" * 64, "pg_lab", "information_schema"]
)
def test_a_schema_whose_name_is_not_plain_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for a schema") as refused:
        Address.parse(f"postgresql://h/db?schema={name.replace(' ', '%20')}")
    assert "at most 63" in str(refused.value.hint)


def test_no_part_of_a_password_with_an_ampersand_is_shown() -> None:
    address = Address.parse("postgresql://h/db?password=ge&heim=1&user=u&schema=lab")
    assert address.shown == "postgresql://h/db?user=u&schema=lab"


def test_two_schemas_are_refused() -> None:
    with pytest.raises(UsageError, match="names two schemas"):
        Address.parse("postgresql://h/db?schema=a&schema=b")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:geheim@h/db", "postgresql://u@h/db"),
        ("postgresql://u:geheim@h:5432/db?schema=lab", "postgresql://u@h:5432/db?schema=lab"),
        ("postgres://u:geheim@h", "postgresql://u@h"),
        ("POSTGRESQL://u:geheim@h", "postgresql://u@h"),
        ("postgresql://:geheim@h/db", "postgresql://@h/db"),
        ("postgresql://u:ge%40heim@h/db", "postgresql://u@h/db"),
        ("postgresql://u:ge:heim@h/db", "postgresql://u@h/db"),
        ("postgresql://u:ge?heim#1@h/db", "postgresql://u@h/db"),
        ("postgresql://u:5432@h/db", "postgresql://u@h/db"),
        ("postgresql://u:@h/db", "postgresql://u@h/db"),
        ("postgresql://u:geheim@h1:5432,h2:5433/db", "postgresql://u@h1:5432,h2:5433/db"),
        ("postgresql://u:geheim@[::1]:5432/db", "postgresql://u@[::1]:5432/db"),
        ("postgresql://u:geheim@/db?host=/tmp", "postgresql://u@/db?host=/tmp"),
        ("postgresql://u@h/db?password=geheim", "postgresql://u@h/db"),
        ("postgresql://h/db?user=u&pass%77ord=geheim&port=1", "postgresql://h/db?user=u&port=1"),
        ("postgresql://h/db?sslpassword=geheim&sslkey=/k&schema=lab", "postgresql://h/db?schema=lab"),
        ("postgresql://h/db?oauth_client_secret=geheim", "postgresql://h/db"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    address = Address.parse(url)
    assert (address.shown, repr(address)) == (shown, f"Address({shown!r})")
    assert address.has_secret
    libpq = re.sub("[?&]schema=lab", "", url.replace("POSTGRESQL", "postgresql"))
    assert conninfo_to_dict(address.url) == conninfo_to_dict(libpq)


@pytest.mark.parametrize(
    "url",
    ["postgresql://h:5432/db", "postgresql://u@h:5432", "postgresql://[::1]:5432/db", "postgresql://h1:1,h2:2/db",
     "postgresql://", "postgresql:///?service=lab", "postgresql:///db?user=a@b", "postgresql://%2Ftmp/db"],
)  # fmt: skip
def test_parts_of_a_url_that_are_not_passwords_are_shown(url: str) -> None:
    address = Address.parse(url)
    assert (address.shown, address.location, address.url) == (url, url, url)
    assert not address.has_secret


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:ge@geheim@h/db",
        "postgresql://u:ge/geheim@h/db",
        "postgresql://u:12/geheim@h/db",
        "postgresql://u:geheim",
        "postgresql://u:geheim/db",
        "postgresql://u:ge%geheim@h/db",
        "postgresql://u:ge%00heim@h/db",
        "postgresql://u:ge geheim@h/db",
        "postgresql://u:ge\ngeheim@h/db",
        "postgresql://h/db?password=ge&geheim",
        "postgresql://h/db?password=ge=geheim",
        "postgresqlx://u:geheim@h/db",
        "postgresql+psycopg://u:geheim@h/db",
    ],
)
def test_a_url_that_libpq_would_read_differently_is_refused_and_not_quoted(url: str) -> None:
    assert is_on_server(url)
    with pytest.raises(UsageError) as refused:
        Address.parse(url)
    told = f"{refused.value.message} {refused.value.hint}"
    assert "can't read the URL of the inventory" in told
    assert "heim" not in told
    assert "%40" in told


@given(st.text("up:@/?#[],&=%4012 \n", max_size=25))
@example("u:p@h")
def test_libpq_reads_every_accepted_url_as_it_is_shown(rest: str) -> None:
    url = f"postgresql://{rest}"
    try:
        address = Address.parse(url)
        meant = conninfo_to_dict(address.url)
    except (UsageError, psycopg.ProgrammingError):
        return
    meant.pop("password", None)
    assert conninfo_to_dict(Address.parse(address.shown).url) == meant


@given(st.text(min_size=1), st.sampled_from(["h", "h:5432", "[::1]:5432", "h1:1,h2:2", ""]))
def test_an_encoded_password_is_passed_to_libpq_only(password: str, hosts: str) -> None:
    marked = f"x{password}x".replace("\0", "")
    address = Address.parse(f"postgresql://u:{quote(marked, safe='')}@{hosts}/db?schema=lab")
    assert conninfo_to_dict(address.url)["password"] == marked
    assert address.shown == f"postgresql://u@{hosts}/db?schema=lab"


@pytest.mark.parametrize(
    "text",
    [
        "no such command 'postgresql://u:geheim@h/db'",
        "no such command 'postgresql://u:ge geheim@h/db'",
        "'postgresql://u:ge@geheim@h/db'",
        "'postgresql://u:ge/geheim@h/db'",
        "'postgresql://u:12/geheim@h/db'",
        "'postgresql://u:geheim'",
        "'postgresql://u:a-password-that-was-cut-off-geheim",
        "can't read postgresql:/u:geheim@h/db: No such file",
        "mysql://u:geheim@h/db is not an inventory",
        "host=h password=geheim dbname=db",
        "host=h password = 'ge geheim' dbname=db",
        "postgresql://h/db?password=geheim&x=y",
    ],
)
def test_passwords_are_removed_from_any_text(text: str) -> None:
    assert SECRET not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "can't reach postgresql://h:5432: bob@lab",
        "can't reach postgresql://u@h:5432/db?schema=lab, bob@lab",
        "postgresql://[::1]:5432/db of bob@lab",
        "node01: redfish+https://10.0.0.1:8443/x does not answer; ask bob@lab",
        "redfish://bmc: timeout",
        "lab.toml:3:7: bad value",
    ],
)
def test_a_text_without_passwords_is_unchanged(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "location",
    [
        "mysql://u:geheim@h/db",
        "postgre://u:geheim@h",
        " postgresql://u:geheim@h",
        "host=h password=geheim",
    ],
)
def test_an_address_that_is_not_an_inventory_is_quoted_without_its_password(location: str) -> None:
    with pytest.raises(UsageError, match="is not an inventory") as refused:
        resolve(location)
    assert SECRET not in refused.value.message
    assert "postgresql://host/database" in str(refused.value.hint)
