"""The tutorials' code is run by `test_tutorials.py`, not collected."""

collect_ignore_glob = ["*.py"]
