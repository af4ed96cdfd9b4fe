"""The counting kernels of ranking and classification: on the CPU by numba, ranking on a GPU."""
