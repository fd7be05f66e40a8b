"""How a run is told: pure functions from a summary or a record to text. Only here is money rounded."""
