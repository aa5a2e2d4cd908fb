"""diffbench: a benchmark of model-diffing methods. The command is `bench`; importing this package imports nothing heavy."""

from importlib.metadata import version

__version__ = version("diffbench")
