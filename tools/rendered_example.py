"""Draw ``examples/rendered_people.jpg``: one picture of ``stagepose render --seed 0``, larger.

    python tools/rendered_example.py examples/rendered_people.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stagepose.images import write_image
from stagepose.rendering.families import draw_stance
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.picture import draw_picture
from stagepose.rendering.scene import draw_scene

NUMBER, SIZE, PEOPLE = 1757, 720, 4  # three whole people, one before another

if __name__ == "__main__":
    rng = np.random.default_rng([0, NUMBER])
    pixels, _ = draw_picture(rng, draw_scene(rng, SIZE, PEOPLE, draw_stance), read_landmarks(COCO_FILE))
    write_image(Path(sys.argv[1]), pixels)
