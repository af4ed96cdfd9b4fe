"""The projected vector for points that exist, from their stored vectors.

In place (`backfill`), or in a copy of the collection (`copy_collection`) where a store cannot
add a vector; both can be planned, checked afterwards, mended and undone.
"""
