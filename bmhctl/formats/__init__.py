"""Read and write files of other systems, manifests, and whole inventories as TOML."""

from bmhctl.formats.import_files import import_options, read_paths

__all__ = ["import_options", "read_paths"]
