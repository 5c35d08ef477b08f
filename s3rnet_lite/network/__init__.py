"""S3RNet: the equations of chapters 03 to 06, and `fast`, which computes the same with fewer
copies.
"""
