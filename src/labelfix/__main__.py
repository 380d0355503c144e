"""``python -m labelfix`` is the command line."""

from labelfix.cli.main import main

if __name__ == "__main__":
    main()
