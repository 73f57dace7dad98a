"""Evaluation: COCO's AP and AR of keypoints and of person boxes, PCK, and a predictor run over a whole split."""

from stagepose.evaluation.bootstrap import Comparison, Interval, PckComparison, compare, compare_pck, intervals
from stagepose.evaluation.boxes import BoxMetrics, evaluate_boxes
from stagepose.evaluation.detector import (
    DetectorMetrics,
    EndToEnd,
    evaluate_detector,
    evaluate_end_to_end,
)
from stagepose.evaluation.kept import Judged, JudgedRun
from stagepose.evaluation.keypoints import (
    Judgement,
    KeypointMetrics,
    evaluate_keypoints,
    gather_by_person,
    judge_keypoints,
)
from stagepose.evaluation.pck import KeypointPck, PckMetrics, evaluate_pck
from stagepose.evaluation.recall import Recall, recall_of_boxes, recall_rows
from stagepose.evaluation.run import detect_dataset, ground_truth_boxes, predict_dataset
from stagepose.evaluation.seeds import SeedComparison, compare_runs
from stagepose.evaluation.sigmas import KeypointSigma, MeasuredSigmas, measure_sigmas

__all__ = [
    "BoxMetrics",
    "Comparison",
    "DetectorMetrics",
    "EndToEnd",
    "Interval",
    "Judged",
    "JudgedRun",
    "Judgement",
    "KeypointMetrics",
    "KeypointPck",
    "KeypointSigma",
    "MeasuredSigmas",
    "PckComparison",
    "PckMetrics",
    "Recall",
    "SeedComparison",
    "compare",
    "compare_pck",
    "compare_runs",
    "detect_dataset",
    "evaluate_boxes",
    "evaluate_detector",
    "evaluate_end_to_end",
    "evaluate_keypoints",
    "evaluate_pck",
    "gather_by_person",
    "ground_truth_boxes",
    "intervals",
    "judge_keypoints",
    "measure_sigmas",
    "predict_dataset",
    "recall_of_boxes",
    "recall_rows",
]
