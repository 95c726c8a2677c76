"""Protocol versions: decode frames to messages, encode events to frames."""
