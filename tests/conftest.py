"""Settings of the whole suite."""

import os

# The models in the tests are small: more threads cost more than they save, above all on a busy
# machine. Set before numpy or torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
