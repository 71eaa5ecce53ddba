"""The ground truth: every op in plain PyTorch, as close to its equations as can be.

Any float dtype, differentiable by autograd. Beside each recurrent op stands its derivative written
out, which the op's reference backend uses and which the kernels implement.
"""
