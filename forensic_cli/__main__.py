"""The entry point of `genforensic` and `python -m forensic_cli`; it catches Ctrl-C while the program still loads."""

import sys


def main() -> None:
    """Import the command line and run it; users may press Ctrl-C during the import as well."""
    try:
        from forensic_cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("genforensic: interrupted", file=sys.stderr)
        sys.exit(130)  # errors.ExitCode.INTERRUPTED, written out because its import may be what was interrupted


if __name__ == "__main__":
    main()
