"""Random changes to batches of images that leave their class as it is.

    images = augment(images, seed, kind="flip")

The same seed gives the same images.
"""

KINDS = ("none", "flip", "flip+shift")
SHIFT = 2  # pixels at most, each way


def augment(images, seed, kind):
    """Return images (N, 28, 28, 1), each mirrored with probability 1/2 and, with kind
    "flip+shift", moved by up to SHIFT pixels each way over a black ground.

    seed: tensor of two integers.
    """
    if kind == "none":
        return images
    import tensorflow as tf

    flip_seed, shift_seed = tf.unstack(tf.random.split(seed, 2))
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    mirror = tf.random.stateless_uniform([count, 1, 1, 1], flip_seed) < 0.5
    images = tf.where(mirror, images[:, :, ::-1], images)
    if kind == "flip":
        return images

    # Pad all around, then cut every image out at its own place.
    padded = tf.pad(images, [[0, 0], [SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]])
    corner = tf.random.stateless_uniform([count, 2], shift_seed, 0, 2 * SHIFT + 1, tf.int32)
    rows = corner[:, :1] + tf.range(height)
    columns = corner[:, 1:] + tf.range(width)
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
