#!/bin/sh
# Restore the first configuration of a switch. This example only pretends.

echo "$1: first configuration loaded"
