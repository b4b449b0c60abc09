"""A program that counts in a cell as fast as others let it: URL or directory, and how often."""

import sys

from mad.baseline.files import open_files


def main(root: str, times: int) -> None:
    """Add one to the number in a cell so many times; lost races are tried again."""
    files = open_files(root)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for _ in range(times):
        while True:
            before = files.cell("tiny/active")
            number = 0 if before is None else int(before)
            if files.swap("tiny/active", before, f"{number + 1}\n".encode()):
                break


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
