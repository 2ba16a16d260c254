"""Run one check or cleanup step against one host: a command, TCP, HTTP or Redfish."""
