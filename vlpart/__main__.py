"""`python -m vlpart` is the `vlpart` command."""

from vlpart.cli.main import main

if __name__ == "__main__":
    main()
