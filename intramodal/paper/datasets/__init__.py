"""Data sets of the paper, one file each; a file that is added here is found by itself.

They are read by plain readers: torchvision has most of these data sets, but none of the splits
that the field uses, and gives decoded images where identities are of the files' bytes.
"""
