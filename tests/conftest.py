"""Settings of the whole suite."""

import os

from hypothesis import HealthCheck, settings

# The models in the tests are small: more threads cost more than they save, above all on a busy
# machine. Set before numpy or torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure. What else is set (as on CI) stays.
settings.register_profile(
    "no time limit", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no time limit")
