"""The published side of the tests: pycocotools kept quiet, its reference files, and sets drawn at random."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stagepose.coco import CocoDataset, read_dataset
from stagepose.skeleton import COCO_17, Skeleton

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
KEYPOINT_FIELDS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
BOX_FIELDS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
              "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")  # fmt: skip

Json = dict[str, Any]


def reference(name: str) -> Any:
    """A file of the reference vectors; without them the test is skipped."""
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"no reference vectors beside the repository: {name}")
    return json.loads(path.read_text(encoding="utf-8"))


def as_dataset(data: Json, folder: Path, skeleton: Skeleton | None = None) -> CocoDataset:
    """A set as a user has it: through a file."""
    path = folder / "truth.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_dataset(path, skeleton=skeleton)


def pycocotools(truth: Json, results: list[Json], kind: str = "keypoints", sigmas: Any = COCO_17.sigmas) -> list[float]:
    """The statistics that pycocotools itself gives, in its order."""
    coco_api, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_api.COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        judge = cocoeval.COCOeval(coco, coco.loadRes(copy.deepcopy(results)), kind)
        if kind == "keypoints":
            judge.params.kpt_oks_sigmas = np.array(sigmas)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats]


def faster_coco_eval(truth: Json, results: list[Json], sigmas: Any = COCO_17.sigmas) -> list[float]:
    """COCO's ten keypoint statistics as faster-coco-eval gives them, in the order of :data:`KEYPOINT_FIELDS`."""
    library = pytest.importorskip("faster_coco_eval")
    coco = library.COCO(copy.deepcopy(truth))
    judge = library.COCOeval_faster(coco, coco.loadRes(copy.deepcopy(results)), "keypoints", kpt_oks_sigmas=sigmas)
    judge.run()
    names = [f"{kind}_{what}" for kind in ("AP", "AR") for what in ("all", "50", "75", "medium", "large")]
    return [float(judge.stats_as_dict[name]) for name in names]


def perfect(data: Json) -> list[Json]:
    """The ground truth as results, of everybody with a labelled keypoint; joints not labelled sit on a labelled one."""
    results = []
    for annotation in data["annotations"]:
        person = np.reshape(annotation["keypoints"], (-1, 3)).astype(float)
        if (person[:, 2] > 0).any() and not annotation["iscrowd"]:
            person[person[:, 2] == 0] = person[person[:, 2] > 0][0]
            results.append({"image_id": annotation["image_id"], "category_id": 1,
                            "keypoints": person.ravel().tolist(), "score": 0.9})  # fmt: skip
    return results


def random_set(seed: int, skeleton: Skeleton = COCO_17, images: int = 5) -> tuple[Json, list[Json]]:
    """A set with everything that makes AP hard, and results with many ties: crowds, people without keypoints, images

    without people, all sizes, more than 20 results in an image, people found twice and found where nobody is.
    """
    rng = np.random.default_rng(seed)
    annotations: list[Json] = []
    results: list[Json] = []
    for image_id in range(1, images + 1):
        people = [_person(rng, image_id, len(skeleton)) for _ in range(rng.integers(0, 6))]
        annotations += people
        found = [np.reshape(p["keypoints"], (-1, 3))[:, :2] for p in people for _ in range(rng.integers(0, 7))]
        found += [rng.uniform(0, 400, (len(skeleton), 2)) for _ in range(rng.integers(0, 3))]
        for xy in found:
            moved = xy + rng.normal(0, rng.choice([0.5, 4.0, 15.0]), xy.shape)
            keypoints = np.column_stack([moved, rng.uniform(0, 1, len(skeleton))])
            results.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist(),
                            "score": float(rng.integers(1, 6) / 5)})  # fmt: skip
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    shuffled = [results[n] for n in rng.permutation(len(results))]
    return coco_json(annotations, images, skeleton), shuffled


def _person(rng: np.random.Generator, image_id: int, joints: int) -> Json:
    size = rng.choice([20.0, 60.0, 200.0], 2) * rng.uniform(0.8, 1.2)
    corner = rng.uniform(0, 600 - size)
    kind = rng.random()
    visible = rng.integers(0, 3, joints) if kind > 0.25 else np.zeros(joints)
    xy = np.round(corner + rng.uniform(0.05, 0.95, (joints, 2)) * size, 1) * (visible > 0)[:, None]
    triples = np.column_stack([xy, visible]).ravel().tolist()
    return {
        "image_id": image_id, "category_id": 1, "iscrowd": int(kind < 0.1),
        "bbox": [*corner.tolist(), *size.tolist()], "area": float(size.prod() * rng.uniform(0.4, 0.7)),
        "keypoints": [int(v) if n % 3 == 2 else v for n, v in enumerate(triples)],
        "num_keypoints": int((visible > 0).sum()),
    }  # fmt: skip


def coco_json(annotations: list[Json], images: int, skeleton: Skeleton = COCO_17) -> Json:
    """Annotations of ``images`` images of 600x600 as a COCO file."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 600, "height": 600} for n in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.names), "skeleton": []}],
    }
