"""Running an app until it is stopped: in one process, or in several under a supervisor."""
