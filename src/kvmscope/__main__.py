"""The entry point: runs the command line, or says what to install if its extra is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``kvmscope``; exits with the code of DESIGN (0 done, 1 found something, 2 usage, 3 no source, 4 bad data)."""
    try:
        import click
        import rich
    except ImportError as error:
        sys.exit(f"kvmscope: the command line needs {error.name}; install it with: pip install 'kvmscope[cli]'")
    del click, rich
    from .cli import run

    run()


if __name__ == "__main__":
    main()
