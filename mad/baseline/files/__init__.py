"""Where a store keeps its bytes: a local directory, or any URL that fsspec opens."""

from pathlib import Path

from mad.baseline.files.base import Files, reason
from mad.baseline.files.local import LocalFiles
from mad.baseline.files.remote import RemoteFiles

__all__ = ["Files", "LocalFiles", "RemoteFiles", "open_files", "reason"]


def open_files(root: Path | str) -> Files:
    """Return the files below a directory or a URL; ConfigError if the URL cannot be opened."""
    return RemoteFiles.open(root) if isinstance(root, str) and "://" in root else LocalFiles(root)
