"""Models of the paper, one file each; a file that is added here is found by itself."""
