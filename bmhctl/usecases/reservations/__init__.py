"""Reserve, wait, hold and give back: requests, allocation, grants, the queue."""
