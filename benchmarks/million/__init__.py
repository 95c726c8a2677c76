"""A million live streams on paper: arithmetic and a simulation of cells, losses, autoscaling and reconnect storms."""
