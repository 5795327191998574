"""`python -m zwoole.bench.compare` runs the comparison."""

from zwoole.bench.compare.comparison import main

if __name__ == "__main__":
    main()
