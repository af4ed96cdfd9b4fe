"""The counting kernels of ranking and classification: on the CPU by numba, and on a GPU."""
