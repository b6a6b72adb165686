"""Real training runs: tasks and data here, methods, search and report beside them; see ``__main__``."""
