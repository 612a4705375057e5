"""`python -m nin_multi`: the command line."""

from nin_multi.cli import main

if __name__ == "__main__":
    main()
