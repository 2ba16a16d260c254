"""Selectors have the same meaning in Python and in SQL, and invalid ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.domain.selector import EVERY_HOST, Operator, Selector, Term, parse_selector
from bmhctl.errors import UsageError
from bmhctl.stores import open_store
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.store import Store
from bmhctl.usecases import inventories
from bmhctl.usecases.shared.context import Context, utc_now
from bmhctl.usecases.shared.host_changes import Changes, HostAddition, Removal, apply

KEYS = st.sampled_from(["arch", "gpu", "memory", "cpus", "example.org/zone"])
VALUES = st.sampled_from(["", "arm64", "x86_64", "64", "8", "64GiB", "65536MiB", "256GiB", "1.5", "0", "a-b_c.d"])
NUMBERS = st.sampled_from(["8", "64", "64GiB", "0", "1.5", "100000MiB"])


def terms() -> st.SearchStrategy[Term]:
    equal = st.builds(Term, KEYS, st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL]), st.tuples(VALUES))
    sets = st.builds(
        Term,
        KEYS,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(VALUES, min_size=1, max_size=3).map(tuple),
    )
    present = st.builds(Term, KEYS, st.sampled_from([Operator.PRESENT, Operator.ABSENT]))
    compare = st.builds(
        Term,
        KEYS,
        st.sampled_from([Operator.AT_LEAST, Operator.AT_MOST, Operator.MORE, Operator.LESS]),
        st.tuples(NUMBERS),
    )
    return equal | sets | present | compare


selectors = st.lists(terms(), max_size=4).map(lambda found: Selector(tuple(found)))
facts = st.dictionaries(KEYS, VALUES, max_size=4)


@given(selectors)
def test_a_selector_reads_back_as_it_is_written(selector: Selector) -> None:
    assert parse_selector(str(selector)) == selector


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("selectors") / "lab.db"
    inventories.init(str(path))
    with closing(open_store(str(path))) as opened:
        yield opened


@given(selector=selectors, labels=st.lists(facts, min_size=1, max_size=5), hardware=facts)
def test_the_database_finds_exactly_the_hosts_that_fit(
    store: Store, selector: Selector, labels: list[dict[str, str]], hardware: dict[str, str]
) -> None:
    specs = [HostSpec(f"node{n}", labels=each, hardware=hardware) for n, each in enumerate(labels)]
    ctx = Context(store, "alice")
    with store.transaction():
        for row in list(store.hosts.find(HostQuery())):
            apply(ctx, Changes(removals=(Removal(row.name),)), utc_now())
        apply(ctx, Changes(newcomers=tuple(HostAddition(Host(s, State.INITIAL, utc_now())) for s in specs)), utc_now())

    found = [host.name for host in store.hosts.find(HostQuery(selector=selector))]

    assert found == [spec.name for spec in specs if selector.fits(spec)]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("arch=arm64", True),
        ("arch==arm64 , rack != r3", True),
        ("arch in (arm64, x86_64),!flaky,gpu", True),
        ("zone notin (a,b)", True),  # as in Kubernetes, it matches hosts without the key
        ("cpus>=64,cpus<65,memory>255GiB", True),
        ("memory=262144MiB", True),
        ("role=label", True),  # a label hides a hardware fact of the same name
        ("role=fact", False),
        ("arch=ARM64", False),
        ("arch>=1", False),
    ],
)
def test_a_selector_fits_the_expected_hosts(text: str, fits: bool) -> None:
    spec = HostSpec(
        "node1",
        labels={"arch": "arm64", "gpu": "", "role": "label"},
        hardware={"cpus": 64, "memory": "256GiB", "role": "fact"},
    )

    assert parse_selector(text).fits(spec) is fits


@pytest.mark.parametrize(
    "text",
    ["a=b,", ",a", "a b", "a in b", "a in (b", "a>=x", "=b", "a=b=c", "a!", "!", "a[b]", "a=b,,c", "key=" + "x" * 64],
)
def test_an_invalid_selector_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_selector(text)

    assert refused.value.hint is not None
    assert "arch=arm64" in refused.value.hint


def test_the_empty_selector_fits_every_host(tmp_path: Path) -> None:
    assert parse_selector("  ") == EVERY_HOST
