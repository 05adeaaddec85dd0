"""``python -m mmfgl``: the same as the command ``mmfgl``."""

from mmfgl.cli import main

if __name__ == '__main__':
    main()
