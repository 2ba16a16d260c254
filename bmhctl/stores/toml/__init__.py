"""The TOML file that declares an inventory: read, located, edited; its state is in a SQLite file."""
