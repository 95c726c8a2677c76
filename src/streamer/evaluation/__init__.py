"""How well a recogniser does on recordings whose words are known: errors, cost, latency."""
