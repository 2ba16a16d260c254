"""Reserve hosts, wait for them, hold them and give them back: requests, choice of hosts, grants, the queue."""
