"""People from StagePose's model files with NumPy, OpenCV and ONNX Runtime alone: what to port to another language.

``python plain_onnxruntime.py POSE.onnx DETECTOR.onnx PHOTO`` prints the people of a photo. The numbers are those of
``stagepose.load(POSE, DETECTOR)(photo)``, to the last bits; a test holds that. docs/deploy.md says why each step is so.
Of pose files it takes those with the codec ``udp-oks``, as the included ones have; others end with a line that says so.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime as ort


def open_model(path, threads=0):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all cores
    session = ort.InferenceSession(path, options)
    info = json.loads(session.get_modelmeta().custom_metadata_map["stagepose"])
    info.setdefault("box_padding", 1.25)
    codec = info.get("codec", {}).get("name", "udp-oks")  # a detector has none
    if codec != "udp-oks":  # its heatmaps are to be read in another way, which stagepose/heatmaps.py has
        sys.exit(f"{path}: its codec is {codec!r}; this program reads 'udp-oks' alone. Use stagepose.load")
    return session, info


def detect(session, info, image):  # RGB, uint8 -> boxes (n, 4) x1 y1 x2 y2, scores (n,)
    height, width = image.shape[:2]
    shrink = min(1, 2 * max(info["input_size"]) / max(height, width))  # the graph resizes the rest, without area
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    boxes, scores = session.run(None, {"picture": image})
    return boxes * np.tile([width / image.shape[1], height / image.shape[0]], 2), scores


def cut(image, box, size, padding):  # -> crop (H, W, 3), scale, offset: crop point = scale * picture point + offset
    width, height = size
    across, down = np.broadcast_to(padding, 2)  # a number, or one for each side
    wide = max((box[2] - box[0]) * across, (box[3] - box[1]) * width / height * down)
    centre = (box[:2] + box[2:]) / 2 - 0.5  # a point is at its pixel's centre, a box at its pixels' edges
    scale = width / wide
    offset = (np.array(size) - 1) / 2 - scale * centre
    margin, limits = np.ceil(2 / scale) + 2, image.shape[1::-1]
    x0, y0 = np.clip(np.floor(-offset / scale) - margin, 0, limits).astype(int)  # the part that the crop shows
    x1, y1 = np.clip(np.ceil((size - offset) / scale) + margin, 0, limits).astype(int)
    part = smaller = image[y0:y1, x0:x1]
    for _ in range(int(np.ceil(-np.log2(2 * scale)))):  # larger than twice the crop: halved, or pixels are left out
        smaller = cv2.resize(smaller, (smaller.shape[1] // 2, smaller.shape[0] // 2), interpolation=cv2.INTER_AREA)
    grown = np.array(part.shape[1::-1]) / smaller.shape[1::-1]
    matrix = np.column_stack([np.diag(scale * grown), scale * (grown / 2 - 0.5 + (x0, y0)) + offset])
    return cv2.warpAffine(smaller, matrix, size, flags=cv2.INTER_LINEAR), scale, offset


def place(heatmap, sigma):  # codec "udp-oks": where the expected OKS is largest -> (x, y) in heatmap pixels
    h, w = heatmap.shape
    spread = 2 * sigma * 0.23 * h
    reach = min(int(np.ceil(3 * spread)), min(h, w) - 1)
    kernel = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * spread**2))
    expected = cv2.sepFilter2D(heatmap, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(expected.argmax(), expected.shape)
    cy, cx = np.clip(y, 1, h - 2), np.clip(x, 1, w - 2)
    a = np.log(np.maximum(expected[cy - 1 : cy + 2, cx - 1 : cx + 2], 1e-10)).astype(float)
    slope = np.array([a[1, 2] - a[1, 0], a[2, 1] - a[0, 1]]) / 2
    xy = (a[2, 2] - a[0, 2] - a[2, 0] + a[0, 0]) / 4
    bend = np.array([[a[1, 2] - 2 * a[1, 1] + a[1, 0], xy], [xy, a[2, 1] - 2 * a[1, 1] + a[0, 1]]])
    peaked = np.linalg.det(bend) > 1e-12 and bend[0, 0] < 0 and bend[1, 1] < 0
    step = -np.linalg.solve(bend, slope) if peaked else 0
    return np.array([x, y]) + np.clip(step + np.array([cx - x, cy - y]), -1, 1)


def keypoints(session, info, image, boxes):  # -> points (n, K, 2) in the picture, scores (n, K)
    size, sigmas = info["input_size"], info["skeleton"]["sigmas"]
    crops, scales, offsets = zip(*(cut(image, box, size, info["box_padding"]) for box in boxes), strict=True)
    (heatmaps,) = session.run(None, {"crops": np.stack(crops)})  # any number of people at once
    pitch = (np.array(size) - 1) / (np.array(heatmaps.shape[:1:-1]) - 1)  # crop pixels per heatmap pixel
    points = np.array([[place(m, s) * pitch for m, s in zip(maps, sigmas, strict=True)] for maps in heatmaps])
    points = (points - np.array(offsets)[:, None]) / np.array(scales)[:, None, None]
    return points, np.clip(heatmaps.max((2, 3)), 0, 1).astype(float)


def find_people(pose, detector, image):  # -> points, scores of the joints, scores of the people; best first
    least = pose[1].get("threshold", 0.5)  # a person's score, and a box's
    boxes, box_scores = detect(*detector, image)
    boxes, box_scores = boxes[box_scores >= least], box_scores[box_scores >= least].astype(float)
    if not len(boxes):
        return []
    points, joints = keypoints(*pose, image, boxes)
    scores = np.cbrt(box_scores * joints.mean(1) ** 2)
    areas = np.prod((boxes[:, 2:] - boxes[:, :2]) * pose[1]["box_padding"], axis=1)
    double = 2 * np.array(pose[1]["skeleton"]["sigmas"])
    kept = []
    for n in np.argsort(-scores):  # of two in nearly the same pose (an OKS above 0.5) the better one
        far = np.square(points[kept] - points[n]).sum(2) / ((areas[kept] + areas[n])[:, None] / 2)
        if scores[n] >= least and (np.exp(-far / double**2 / 2).mean(1) <= 0.5).all():
            kept.append(n)
    return [(points[n], joints[n], scores[n]) for n in kept]


if __name__ == "__main__":
    pose_file, detector_file, photo = sys.argv[1:]
    upright = cv2.cvtColor(cv2.imread(photo), cv2.COLOR_BGR2RGB)  # OpenCV has turned it by its EXIF orientation
    pose_model = open_model(pose_file)
    for xy, joint_scores, person_score in find_people(pose_model, open_model(detector_file), upright):
        print(f"person: score {person_score:.3f}")
        for name, (x, y), score in zip(pose_model[1]["skeleton"]["names"], xy, joint_scores, strict=True):
            print(f"  {name}: {x:.1f} {y:.1f}, score {score:.2f}")
