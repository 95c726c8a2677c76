"""What a recogniser answers, which part of it is stable, and how it is written down as captions."""
