"""Rendered people: pictures with exact keypoints, from a CC0 body. See docs/rendered_people.md."""

from stagepose.rendering.dataset import Rendered, render_set
from stagepose.rendering.landmarks import Landmarks, read_landmarks
from stagepose.rendering.settings import RenderConfig

__all__ = ["Landmarks", "RenderConfig", "Rendered", "read_landmarks", "render_set"]
