"""What must be survived, and where it is tested: real files, real signals, real processes.

| F1 kill -9 while a checkpoint is written | test_checkpoints, three times; 20 times in benchmarks/kill.py |
| F2 kill between data and manifest | test_checkpoints |
| F3, F4 one bit flipped, truncated, empty, missing | tests/training/test_checkpoint.py |
| F5 disk full | test_checkpoints and test_packing, on 8 MB; injected in tests/training/test_checkpoint.py |
| F6 folder read-only, gone, or a file | test_checkpoints |
| F7 SIGTERM, with workers and with ranks | test_training |
| F8 Ctrl-C twice | test_checkpoints |
| F9, F10, F11 ranks killed, that see other folders, of another number | test_training |
| F12 changed settings | tests/training/test_loop.py |
| F13 losses that are not finite | tests/training/test_loop.py |
| F14 data worker killed | test_training |
| F15 out of memory | test_training |
| F16 two trainings in one folder | test_checkpoints |
| F17 checkpoint of another format | test_checkpoints |
| D8 two ranks judge as one does | test_training |
"""
