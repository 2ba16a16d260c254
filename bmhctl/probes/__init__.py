"""Run one step against one host: a command, TCP, HTTP or Redfish."""
