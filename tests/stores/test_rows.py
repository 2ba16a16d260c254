"""Values of rows, as they are written and read."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bmhctl.stores.rows import from_json, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_a_json_value_is_written_as_by_json_dumps(value: object) -> None:
    assert to_json(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert from_json(to_json(value)) == value
