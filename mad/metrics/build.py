"""What runs here: versions, and the revision of the source it was built from."""

import json
import os
from importlib.metadata import distribution, version
from platform import python_version

from mad import __version__


def build_labels() -> tuple[str, str, str, str]:
    """Return version, revision, and versions of Python and torch.

    The revision is ``MAD_REVISION`` of the environment, which an image is built with, or the
    commit that pip installed from (PEP 610), or ``unknown``.
    """
    revision = os.environ.get("MAD_REVISION") or _installed_revision() or "unknown"
    return __version__, revision, python_version(), version("torch")


def _installed_revision() -> str:
    written = distribution("mad").read_text("direct_url.json")
    origin: dict[str, dict[str, str]] = json.loads(written) if written else {}
    return origin.get("vcs_info", {}).get("commit_id", "")
