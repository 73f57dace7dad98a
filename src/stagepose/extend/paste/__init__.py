"""People cut out of their pictures and pasted into others, and over other people."""

from stagepose.extend.paste.recipe import PasteConfig, PasteRecipe

__all__ = ["PasteConfig", "PasteRecipe"]
