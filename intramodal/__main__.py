"""``python -m intramodal``: the command line."""

from intramodal.cli import main

if __name__ == "__main__":
    main()
