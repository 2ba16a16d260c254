"""The lifecycle of a host: the table, and the machine that is drawn from it."""
