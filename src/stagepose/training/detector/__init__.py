"""The person detector: FPN and RoIAlign over torchvision's R-CNN parts, made for recall."""
