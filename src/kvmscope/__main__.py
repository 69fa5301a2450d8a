"""The entry point: runs the command line, or says what to install if its extra is missing.

Signals come first, before anything else is imported: loading click and numpy takes longer than a person takes to press
Ctrl-C, and Python's own handler of SIGINT would print a traceback of whatever import it hits. Until ``interrupts`` is
loaded a signal ends the process at once, with the exit code of that signal; nothing has been done that must be undone.
"""

try:
    import _signal  # built in: ``signal`` loads enum and re, for several ms
    import os
    import sys

    def _end_at_once(number: int, _frame: object) -> None:
        os._exit(128 + number)

    def _handle_early() -> None:
        """Leaves alone signals that this process inherited as ignored, and handlers of a program that imports this."""
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, _end_at_once)
        if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, _end_at_once)

    _handle_early()
except KeyboardInterrupt:  # raised by Python's own handler, just before it is replaced
    raise SystemExit(130) from None

_OBJECTS_OF_A_START = 200_000
"""Loading a command makes up to 150,000 long-lived objects; collections over them take up to 40 ms of its start."""

_OBJECTS_A_COLLECTION = 20_000
"""The threshold from the first collection on."""


def _collect_as_usual(phase: str, info: object) -> None:
    """Lowers the threshold at the first collection, so that long-running commands do not keep much garbage."""
    import gc

    gc.set_threshold(_OBJECTS_A_COLLECTION)
    gc.callbacks.remove(_collect_as_usual)


def main() -> None:
    """Run ``kvmscope``; exits with the code of DESIGN (0 done, 1 found something, 2 usage, 3 no source, 4 bad data)."""
    import gc  # not at the top: loading it is a moment at which Python acts on a signal, before the handlers are there

    gc.set_threshold(_OBJECTS_OF_A_START)
    gc.callbacks.append(_collect_as_usual)
    from .console import interrupts, streams

    streams.open_standard_streams()
    handlers = interrupts.install()
    try:
        exit_code = _run()
    except BaseException:
        if handlers.exit_code is None:
            raise
        exit_code = 0
    handlers.close()
    sys.stderr.flush()
    # The exit code is the signal's, whatever exception a signal's exception was turned into on its way. The shutdown of
    # the interpreter takes 20 ms with numpy, waits for threads, and restores the default action of signals.
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
    # numpy's linear algebra is not used here, but starting its threads takes 30 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .cli.group import main as command

    return command.run(sys.argv[1:])


if __name__ == "__main__":
    main()
