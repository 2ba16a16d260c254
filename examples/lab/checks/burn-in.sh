#!/bin/sh
# Loads every processor for a while and looks for errors. This one pretends, and takes a moment as if it did.
# What is declared about the host is in the environment: BMH_HOST, BMH_ADDRESS, BMH_LABEL_RACK, BMH_HARDWARE_CPUS, …

sleep 0.2
echo "$BMH_HARDWARE_CPUS processors, $BMH_HARDWARE_MEMORY: no errors"
