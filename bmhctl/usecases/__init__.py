"""What commands do: functions over a context that return a result."""
