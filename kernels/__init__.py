"""The Triton kernels, one file an op, named as in `ops/`.

An op imports its kernel file the first time that its Triton backend runs. Importing the package
itself imports nothing of Triton, which is an optional dependency (`sketchrnn-fast[triton]`).
"""
