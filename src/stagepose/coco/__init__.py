"""COCO annotation and result files: read, validate, clean, write, count, split."""

from stagepose.coco.category import resolve_skeleton
from stagepose.coco.clean import Changes, write_clean
from stagepose.coco.dataset import CocoDataset, dataset_from_arrays, read_dataset, to_json
from stagepose.coco.instances import Instances, read_instances
from stagepose.coco.jsonfile import write_json_compact
from stagepose.coco.negatives import read_negatives
from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.pictures import images_folder, require_images_folder
from stagepose.coco.predictions import check_predictions
from stagepose.coco.problems import Problem, ProblemKind, summarise
from stagepose.coco.readiness import overlap_problems, picture_problems, refuse_bad_pictures, refuse_generated
from stagepose.coco.results import (
    box_results,
    keypoint_result,
    person_of_result,
    person_result,
    read_box_results,
    read_keypoint_results,
    write_results,
)
from stagepose.coco.splits import drawn_by_lot, split
from stagepose.coco.statistics import STATISTICS_HEADER, Statistics, statistics, statistics_rows
from stagepose.coco.validate import check_dataset

__all__ = [
    "STATISTICS_HEADER",
    "Changes",
    "CocoDataset",
    "ImageInfo",
    "Instances",
    "Problem",
    "ProblemKind",
    "Statistics",
    "box_results",
    "check_dataset",
    "check_predictions",
    "dataset_from_arrays",
    "drawn_by_lot",
    "images_folder",
    "keypoint_result",
    "overlap_problems",
    "person_of_result",
    "person_result",
    "picture_problems",
    "read_box_results",
    "read_dataset",
    "read_instances",
    "read_keypoint_results",
    "read_negatives",
    "refuse_bad_pictures",
    "refuse_generated",
    "require_images_folder",
    "resolve_skeleton",
    "split",
    "statistics",
    "statistics_rows",
    "summarise",
    "to_json",
    "write_clean",
    "write_json_compact",
    "write_results",
]
