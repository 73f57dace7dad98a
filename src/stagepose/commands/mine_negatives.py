"""``stagepose mine-negatives``: boxes that a detector takes for people, and are not, to learn from."""

from __future__ import annotations

from stagepose import coco
from stagepose.commands.arguments import DetectorName, Folder, JsonFile, OptionalFolder, Provider, Threads
from stagepose.commands.console import counted, counter, note, say
from stagepose.lines import printable
from stagepose.making.mining import MiningConfig, Search, mine
from stagepose.making.scenes import scenes_in
from stagepose.predictor import DEFAULT_DETECTOR
from stagepose.runtime import DetectorModel


def mine_negatives(
    file: JsonFile,
    *,
    out: Folder,
    images: OptionalFolder = None,
    negatives: OptionalFolder = None,
    detector: DetectorName = DEFAULT_DETECTOR,
    least_score: float = MiningConfig.least_score,
    most_score: float = MiningConfig.most_score,
    overlap: float = MiningConfig.overlap,
    each: int = MiningConfig.each,
    threads: Threads = None,
    provider: Provider = "cpu",
) -> None:
    """Mine hard negatives: a detector's false positives on training pictures, for 'stagepose train --negatives'.

    A pose network that has only seen people finds keypoints in everything. Pictures marked with all_person_boxes: false
    are left out, as somebody may be there whom no box shows. An interrupted search goes on with the same command.

    Args:
        file: COCO annotation file of the training pictures, in which everybody is boxed.
        out: Folder of the set: negatives.json, and images/ with links to the pictures.
        images: Folder of the pictures; by default images/ beside the file.
        negatives: Folder of pictures without people, searched too; by default negatives/ beside the file, if there.
        least_score: Minimum score of a box.
        most_score: Maximum score of a box: above, it is often somebody who is not labelled.
        overlap: Largest share of a box that people's boxes may cover.
        each: Most boxes of a picture, best first.
    """
    config = MiningConfig(least_score=least_score, most_score=most_score, overlap=overlap, each=each)
    labelled, people = coco.read_instances(file), coco.read_dataset(file)
    beside = file.parent / "negatives"
    empty = negatives or (beside if beside.is_dir() else None)
    search = Search(labelled=labelled, images=coco.require_images_folder(file, images),
                    empty=scenes_in(empty, "--negatives") if empty else ())
    if search.left_out:
        note(f"{printable(file)}: {counted(search.left_out, 'picture', 'pictures')} left out, where not everybody is "
             "boxed (all_person_boxes: false)")
    model = DetectorModel(detector, threads=threads, providers=[provider])
    with counter("mine") as progress:
        mined = mine(search, model, out, skeleton=people.skeleton, config=config, progress=progress,
                     identity={"data": people.sha256(), "detector": model.info.sha256})
    say(f"{printable(mined.file)}: {counted(mined.boxes, 'box', 'boxes')} without a person in "
        f"{mined.pictures:,} of {counted(mined.searched, 'picture', 'pictures')}")
