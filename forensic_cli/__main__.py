"""Lets `python -m forensic_cli` stand in for the `genforensic` command."""

from forensic_cli.main import main

if __name__ == "__main__":
    main()
