"""One thread a test: tests run beside each other, and OpenMP's threads wait for one another by spinning."""

import torch

torch.set_num_threads(1)
