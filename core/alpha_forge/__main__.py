"""``python -m alpha_forge``."""

from alpha_forge.cli import main

if __name__ == "__main__":
    main()
