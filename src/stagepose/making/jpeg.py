"""Pictures of sets that are made, as JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.errors import StagePoseError


def encode_jpeg(pixels_HW3: NDArray[np.uint8], quality: int) -> bytes:
    """RGB pixels as a JPEG file's bytes; ``quality`` 0 to 100."""
    done, data = cv2.imencode(".jpg", pixels_HW3[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise StagePoseError("OpenCV could not write a JPEG")
    return data.tobytes()
