"""More people from those there are: an ordinary COCO set of made pictures, judged. See docs/more_people.md."""

from stagepose.extend.dataset import Extended, extend_set
from stagepose.extend.judge import Judge
from stagepose.extend.made import Made, MadePerson, Maker, Recipe, Refused, Source

__all__ = ["Extended", "Judge", "Made", "MadePerson", "Maker", "Recipe", "Refused", "Source", "extend_set"]
