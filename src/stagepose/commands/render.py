"""``stagepose render``: a labelled set of rendered people."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from stagepose.commands.arguments import Folder, OptionalCount, OptionalFile, OptionalFolder
from stagepose.commands.console import counted, counter_or_lines, say
from stagepose.cores import available_cores
from stagepose.lines import printable
from stagepose.rendering import RenderConfig, render_set
from stagepose.rendering.landmarks import COCO_FILE


def render(
    pictures: Positional[Annotated[int, arg(metavar="N")]],
    *,
    out: Folder,
    size: int = 256,
    people: int = 4,
    seed: int = 0,
    skeleton: OptionalFile = None,
    backgrounds: OptionalFolder = None,
    poses: OptionalFile = None,
    jobs: OptionalCount = None,
) -> None:
    """Render pictures of people with exact keypoints: an ordinary COCO set, in the public domain (CC0).

    It may be stopped at any time: the same command continues, and a larger N adds to what is there. The same seed gives
    the same pictures, whatever the number of processes.

    Args:
        pictures: Number of pictures.
        out: Folder for the set: images/, person_keypoints.json and sheet.jpg to look at.
        size: Longer side of a picture in pixels.
        people: Maximum number of people in a picture.
        seed: Random seed of the people and scenes.
        skeleton: TOML file that says where keypoints are on the body; COCO's 17 by default.
        backgrounds: Folder of pictures without people, instead of drawn rooms and landscapes.
        poses: COCO file whose people's poses are used instead of random ones.
        jobs: Processes; one per core by default.
    """
    config = RenderConfig(size=size, people=people, seed=seed, skeleton=skeleton or COCO_FILE, backgrounds=backgrounds,
                          poses=poses)
    with counter_or_lines("rendering", "rendered") as progress:
        processes = available_cores() if jobs is None else jobs
        done = render_set(pictures, out, config, jobs=processes, progress=progress)
    say(f"{printable(done.file)}: {counted(done.pictures, 'picture', 'pictures')}, "
        f"{counted(done.people, 'person', 'people')}, {done.with_keypoints:,} with keypoints")
