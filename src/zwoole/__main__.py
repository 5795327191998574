"""`python -m zwoole` is the `zwoole` command."""

from zwoole.cli import main

if __name__ == "__main__":
    main()
