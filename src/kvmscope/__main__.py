"""The entry point: runs the command line, or says what to install if its extra is missing.

Signals and the standard streams come first: loading click and numpy takes longer than a person takes to press Ctrl-C.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run ``kvmscope``; exits with the code of DESIGN (0 done, 1 found something, 2 usage, 3 no source, 4 bad data)."""
    try:
        from .console import interrupts, streams

        streams.open_standard_streams()
        handlers = interrupts.install()
    except KeyboardInterrupt:
        os._exit(130)
    try:
        exit_code = _run()
    except BaseException:
        if handlers.exit_code is None:
            raise
        exit_code = 0
    handlers.close()
    sys.stderr.flush()
    # Whatever the exception of a signal has become on its way, the exit code is the signal's. What an interpreter does
    # at its end takes 20 ms with numpy, waits for threads, and gives signals their default action back.
    os._exit(exit_code if handlers.exit_code is None else handlers.exit_code)


def _run() -> int:
    try:
        import click
        import rich
    except ImportError as error:
        sys.stderr.write(
            f"kvmscope: the command line needs {error.name}; install it with: pip install 'kvmscope[cli]'\n"
        )
        return 1
    del click, rich
    # numpy's algebra is not used here, but its threads take 30 ms to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .cli.group import main as command

    return command.run(sys.argv[1:])


if __name__ == "__main__":
    main()
