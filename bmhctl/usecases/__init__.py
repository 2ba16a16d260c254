"""The use cases of the commands: functions that take a context and return a result."""
