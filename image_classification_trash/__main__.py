"""`python -m image_classification_trash` is the command `trash-classifier`."""

from image_classification_trash.cli import main

if __name__ == "__main__":
    main()
