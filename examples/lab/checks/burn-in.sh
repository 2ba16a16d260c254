#!/bin/sh
# Load every processor for a while and look for errors. This example only pretends, and sleeps for a moment instead.
# The environment has what is declared about the host: BMH_HOST, BMH_ADDRESS, BMH_LABEL_RACK, BMH_HARDWARE_CPUS, …

sleep 0.2
echo "$BMH_HARDWARE_CPUS processors, $BMH_HARDWARE_MEMORY: no errors"
