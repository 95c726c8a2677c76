"""Running an app until it is told to end: alone, or as one of several processes under a supervisor."""
