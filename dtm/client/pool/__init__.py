"""The pool of processes that run tasks: one at a time each, so that a task can be ended, or end its process."""
