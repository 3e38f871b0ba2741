"""Where trials run: in this process, in threads, in processes, on other machines."""
