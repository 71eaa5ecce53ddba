"""A barrier over all programs of a cooperative launch.

`counter` is one int32 in device memory, 0 before the launch; it only grows, so barrier number n
(from 1) is passed when it reaches n · programs. What a program wrote before the barrier, every
program reads behind it: the barrier within the program orders its threads' writes before the one
thread's release, and that thread's acquire before the reads of all.

The launch must be cooperative (`launch_cooperative_grid`), which is refused when not all programs
fit the chip at once; with programs that wait to be scheduled the others would wait for ever.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def grid_barrier(counter_ptr, target):
    """Wait until `target` arrivals have been counted, one of them ours."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release")
    while tl.atomic_add(counter_ptr, 0, sem="acquire") < target:
        pass
    tl.debug_barrier()
