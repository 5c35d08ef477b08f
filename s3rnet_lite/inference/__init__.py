"""Fusing any pair of any size; built in notebooks/10_gpu_training.ipynb."""
