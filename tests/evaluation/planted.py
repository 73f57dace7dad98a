"""People whose joints lie far apart, so that every kind of error can be planted by hand and nothing else is one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.published import Json, coco_json
from stagepose.skeleton import COCO_17

AREA = 10_000.0  # a joint is near a place within 25 pixels at most (the hips)
APART, COLUMNS = 90.0, 5  # joints on a grid
ORIGINS = [(20.0, 20.0), (520.0, 20.0), (20.0, 520.0), (520.0, 520.0)]
SIDE = 1000


def joints(person: int) -> NDArray[np.float64]:
    """(17, 2) where a person's joints are."""
    n = np.arange(len(COCO_17))
    return np.stack([n % COLUMNS, n // COLUMNS], axis=1) * APART + ORIGINS[person]


def truth(images: int = 1, people: int = 2) -> Json:
    rows = [{"id": image * 10 + n, "image_id": image, "category_id": 1, "iscrowd": 0, "area": AREA, "num_keypoints": 17,
             "bbox": [*ORIGINS[n], 380.0, 290.0],
             "keypoints": np.column_stack([joints(n), np.full(17, 2)]).ravel().tolist()}
            for image in range(1, images + 1) for n in range(people)]  # fmt: skip
    data = coco_json(rows, images)
    data["images"] = [{**image, "width": SIDE, "height": SIDE} for image in data["images"]]
    return data


def found(data: Json, score: float = 0.9) -> list[Json]:
    """Everybody where they are, the first of an image best."""
    return [{"image_id": a["image_id"], "category_id": 1, "keypoints": list(map(float, a["keypoints"])),
             "score": score - 0.01 * n} for n, a in enumerate(data["annotations"])]  # fmt: skip


def only_labelled(annotation: Json, *names: str) -> None:
    """Take the labels of all other joints away."""
    for k, name in enumerate(COCO_17.names):
        if name not in names:
            annotation["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
    annotation["num_keypoints"] = len(names)


def moved(result: Json, name: str, xy: Any) -> None:
    """Put one joint somewhere else."""
    k = COCO_17.index(name)
    result["keypoints"][3 * k : 3 * k + 2] = [float(value) for value in xy]


def at_similarity(person: int, name: str, similarity: float) -> NDArray[np.float64]:
    """A place whose KS with a person's joint is this."""
    k = COCO_17.index(name)
    distance = 2 * COCO_17.sigmas[k] * np.sqrt(-2 * AREA * np.log(similarity))
    return np.asarray(joints(person)[k] + [distance, 0.0])


def at_joint(person: int, name: str) -> NDArray[np.float64]:
    return np.asarray(joints(person)[COCO_17.index(name)])


def nowhere() -> NDArray[np.float64]:
    return np.array([950.0, 440.0])


def plant(results: list[Json], kind: str) -> list[Json]:
    """One error of a kind in the first person of two."""
    results = copy.deepcopy(results)
    places = {"jitter": at_similarity(0, "nose", 0.7), "inversion": at_joint(0, "right_wrist"),
              "swap": at_joint(1, "left_wrist"), "miss": nowhere()}
    moved(results[0], "nose" if kind == "jitter" else "left_wrist", places[kind])
    return results
