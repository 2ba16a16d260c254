"""The TOML file that declares an inventory: read, scanned, edited; its state is in a SQLite file."""
