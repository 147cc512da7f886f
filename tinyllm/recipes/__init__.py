"""Recipes: what a command does, callable from Python.

loading.py   tinyllm.load(folder): a trained model, ready to write, to answer and to judge
"""

from tinyllm.recipes.loading import LoadedModel, LoadedRewardModel, load

__all__ = ["LoadedModel", "LoadedRewardModel", "load"]
