"""The lifecycle of a host: a table of states and edges, and the machine that is made from it."""
