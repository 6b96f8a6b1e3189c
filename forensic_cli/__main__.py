"""Where the `genforensic` command and `python -m forensic_cli` begin; Ctrl-C is one line from here on."""

import sys


def main() -> None:
    """Import the command line and run it: the import takes long enough to be interrupted."""
    try:
        from forensic_cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("genforensic: interrupted", file=sys.stderr)
        sys.exit(130)  # errors.ExitCode.INTERRUPTED, whose import may be what was interrupted


if __name__ == "__main__":
    main()
