"""`python -m sketchrnn_fast` is `sketchrnn-fast`."""

from sketchrnn_fast.cli import main

main()
