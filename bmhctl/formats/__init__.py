"""Other people's files in and out: BareMetalHost manifests, and a whole inventory as TOML."""

from bmhctl.formats.import_files import read_paths

__all__ = ["read_paths"]
