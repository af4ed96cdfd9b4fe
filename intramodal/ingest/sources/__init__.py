"""Where pictures come from: a folder, a list, tar shards, or paths on stdin."""
