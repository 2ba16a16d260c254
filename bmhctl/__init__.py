"""bmhctl: take turns on bare-metal hosts, from a shell or from Python."""
