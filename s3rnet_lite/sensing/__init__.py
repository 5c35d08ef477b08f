"""Scenes, sensors, and how one becomes the other; built in notebooks/01_degradation.ipynb."""
