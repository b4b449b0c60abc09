"""Scrapes in a process of their own: an address a line in, the seconds it took a line out.

Whoever measures what scoring takes must not read a megabyte in the same interpreter.
"""

import sys
import time
import urllib.request


def main() -> None:
    """Scrape whenever a line asks for it, until there are no more."""
    for line in sys.stdin:
        begun = time.monotonic()
        with urllib.request.urlopen(line.strip(), timeout=10) as answer:  # noqa: S310  # our server
            answer.read()
        sys.stdout.write(f"{time.monotonic() - begun}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
