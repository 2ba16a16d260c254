from string import ascii_lowercase, digits

from hypothesis import given
from hypothesis import strategies as st

from bmhctl.support.folding import folded, folded_within
from bmhctl.usecases.shared.host_selection import unfold


def test_numbered_names_are_shown_as_ranges() -> None:
    racks = [f"r{rack}-node{number:02}" for rack in (1, 2) for number in range(1, 11)]
    assert folded(racks) == ["r1-node[01-10]", "r2-node[01-10]"]
    assert folded(["node1", "node2", "node9", "node10"]) == ["node[1-2,9-10]"]
    assert folded(["node01.lab", "node02.lab", "spare", "node04.lab"]) == ["node[01-02,04].lab", "spare"]
    assert folded(["node07"]) == ["node07"]


_NAMES = st.builds(  # from_regex takes four times as long
    "{}{}{}".format,
    st.text(ascii_lowercase, min_size=1, max_size=2),
    st.text(digits, max_size=3),
    st.just("") | st.builds("-{}{}".format, st.sampled_from(ascii_lowercase), st.text(digits, min_size=1, max_size=2)),
)


@given(st.lists(_NAMES, unique=True, max_size=40))
def test_a_folded_range_means_exactly_the_original_names(names: list[str]) -> None:
    assert sorted(unfold(folded(names))) == sorted(names)
    assert sorted(unfold(folded(names, 20))) == sorted(names)


def test_a_long_list_of_ranges_is_cut_into_words_of_limited_length() -> None:
    odd = [f"node{number:02}" for number in range(1, 12, 2)]
    assert folded(odd, 14) == ["node[01,03,05]", "node[07,09,11]"]
    assert folded(odd, 2) == odd
    assert folded_within(odd, 20) == "node[01,03,05,07] +2"
    assert folded_within(odd, 23) == "node[01,03,05,07,09,11]"
