"""The vocabulary: hosts, reservations, policies, selectors and units as plain values; no I/O."""
