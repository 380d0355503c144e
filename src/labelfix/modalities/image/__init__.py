"""Images: decode, transform, encode by a backbone, cache pixels, draw thumbnails.

In: Encoded images by row.
Out: `Features` of a frozen backbone, training inputs, pictures for pages.
"""
