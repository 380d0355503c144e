"""``python -m labelfix`` is the command line."""

from labelfix.cli import main

if __name__ == "__main__":
    main()
