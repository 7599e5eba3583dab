"""One torch thread for all tests: small tensors, and other work beside them on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
