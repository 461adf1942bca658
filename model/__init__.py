"""The science of Reality Check: images in, explained decisions out. Usable without the dashboard.

>>> from model.detector import Detector
>>> result = Detector.load().classify(open("face.jpg", "rb").read())  # doctest: +SKIP
>>> result.verdict, result.p_fake  # doctest: +SKIP
"""

import os

# Read when torch's thread pool and allocator start: spinning threads ruin shared machines, and huge pages spare the
# page faults of re-mapped activations. A value set by the user wins.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
