import pytest

from bmhctl.errors import UsageError
from bmhctl.usecases import hosts
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.queries import show
from bmhctl.usecases.shared.host_selection import Choice
from tests.conftest import Lab


def test_a_range_gives_each_added_host_its_own_address_mac_and_bmc(lab: Lab) -> None:
    ctx = lab.context()
    attributes = AttributeChanges(
        address="10.0.1.[9-12]", mac="02:00:00:00:00:[09-0c]", bmc="redfish+https://10.0.2.[9-12]/redfish/v1/Systems/1"
    )
    assert hosts.add(ctx, ["node[01-04]"], attributes).error is None
    specs = [show(ctx, f"node{number:02}").host.spec for number in range(1, 5)]
    assert [spec.address for spec in specs] == ["10.0.1.9", "10.0.1.10", "10.0.1.11", "10.0.1.12"]
    assert [spec.mac for spec in specs] == [f"02:00:00:00:00:{end}" for end in ("09", "0a", "0b", "0c")]
    assert [spec.bmc and spec.bmc.address[:24] for spec in specs][1] == "redfish+https://10.0.2.10"[:24]
    changed = hosts.set_attributes(ctx, Choice(names=("node[01-04]",)), AttributeChanges(address="10.9.[0-1].[1-2]"))
    assert changed.error is None
    assert [show(ctx, f"node{n:02}").host.spec.address for n in range(1, 5)] == [
        *("10.9.0.1", "10.9.0.2", "10.9.1.1", "10.9.1.2")
    ]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (AttributeChanges(address="10.0.1.[1-3]"), "--address 10.0.1.[1-3] stands for 3 values, but 4 hosts are named"),
        (AttributeChanges(mac="02:00:00:00:00:[01-10]"), "stands for 16 values, counted in hexadecimal, but 4 hosts"),
        (AttributeChanges(address="10.0.1.{n}"), "--address has the placeholder {n}, which is not known"),
        (AttributeChanges(address="10.0.1.[4-1]"), "[4-1] is not a range"),
        (AttributeChanges(address="10.0.1.1"), "several hosts can't share a MAC or an address"),
    ],
)
def test_values_that_do_not_fit_the_hosts_are_refused_before_any_is_added(
    attributes: AttributeChanges, words: str, lab: Lab
) -> None:
    ctx = lab.context()
    with pytest.raises(UsageError) as caught:
        hosts.add(ctx, ["node[01-04]"], attributes)
    assert words in caught.value.message
    assert not any(ctx.store.hosts.counts().values())


def test_an_ipv6_address_in_brackets_is_not_a_range(lab: Lab) -> None:
    ctx = lab.context()
    attributes = AttributeChanges(bmc="redfish+https://[fe80::1]/redfish/v1")
    assert hosts.add(ctx, ["node[1-2]"], attributes).error is None
