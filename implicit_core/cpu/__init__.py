"""The CPU: compiled kernels, and the modules of ``implicit.cpu`` under their names."""
