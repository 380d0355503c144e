"""The page that people decide in: a server of one run on this machine."""
