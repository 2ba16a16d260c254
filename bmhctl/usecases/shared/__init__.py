"""The building blocks of use cases; no command calls a function here directly."""
