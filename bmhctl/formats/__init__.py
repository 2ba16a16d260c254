"""Other people's files in and out: hosts of other systems, manifests, and a whole inventory as TOML."""

from bmhctl.formats.import_files import import_options, read_paths

__all__ = ["import_options", "read_paths"]
