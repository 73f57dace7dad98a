"""``stagepose import-detector``: torchvision's detectors as StagePose model files."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from stagepose.commands.arguments import File, OptionalFile, OptionalFolder, OptionalText, OptionalTexts
from stagepose.commands.console import note, say
from stagepose.files import require_place
from stagepose.images import find_images, read_image
from stagepose.lines import printable
from stagepose.modelinfo import ModelInfo
from stagepose.training.detector.foreign import LONGEST, check_architecture, import_detector, torchvision_detector
from stagepose.training.storage import Bits

MOST_PICTURES = 5  # to compare the file on
ITS_LICENCE = "BSD-3-Clause (torchvision)"
ITS_DATA = "COCO train2017 (torchvision's weights)"


def import_torchvision(
    architecture: Positional[Annotated[str, arg(metavar="ARCHITECTURE")]],
    *,
    out: File,
    weights: OptionalFile = None,
    name: OptionalText = None,
    licence: str = "",
    training_data: OptionalTexts = None,
    bits: Bits = 32,
    pictures: OptionalFolder = None,
) -> None:
    """Turn a torchvision detector's weights into a model file that finds people, with torchvision's own boxes.

    Without --weights torchvision's COCO weights are fetched from its servers, which needs a network once.

    Args:
        architecture: Name of a torchvision detector, such as fasterrcnn_resnet50_fpn_v2.
        out: The .onnx file.
        weights: State dict on disk (.safetensors or .pth) to use instead; its label 1 must be people.
        name: The model's name; the architecture's by default.
        licence: Licence of the model, for its description; torchvision's if its weights are fetched.
        training_data: Names of the sets that the model was trained on, for its description.
        bits: Bits per stored weight: 8, 16 or 32; computation is always in float32.
        pictures: Folder of pictures with people to compare the file on; synthetic ones by default.
    """
    require_place(out, suffix=".onnx")
    check_architecture(architecture)
    shown = [np.array(read_image(path).pixels) for path in find_images([pictures])[:MOST_PICTURES]] if pictures else []
    if weights is None:
        note(f"{architecture}: fetching torchvision's COCO weights")
        licence, training_data = licence or ITS_LICENCE, training_data or [ITS_DATA]
    model = torchvision_detector(architecture, weights)
    side = LONGEST[architecture]
    info = ModelInfo(kind="detector", name=name or architecture, input_size=(side, side), licence=licence,
                     training_data=tuple(training_data or ()))
    made = import_detector(model, out, info, bits=bits, pictures=shown)
    gap = made.difference
    say(f"{printable(out)}: {made.megabytes:.1f} MB; {gap.compared - gap.unmatched} of {gap.compared} boxes agree "
        f"with torchvision's, within {gap.box:.2g} of the picture's longer side and {gap.score:.2g} in score")
