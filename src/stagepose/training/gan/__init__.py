"""A network that repairs photos of people whose limbs were moved: new training people in poses to order.

A photo of somebody in another pose, which a network that changes poses would learn from, does not exist; one that
learns from two photos of different people learns to copy. So it learns repair: limbs are cut out of one photo,
displaced, erased, and the photo itself is the answer. To make a new person, limbs are cut out, carried to a new pose
and repaired: the labels are exact, because nobody had to guess where the limbs went.

- :mod:`~stagepose.training.gan.limbs`: which joints can be moved, and how thick a limb is
- :mod:`~stagepose.training.gan.moving`: limbs cut out and put down elsewhere, in batches, on the device
- :mod:`~stagepose.training.gan.damage`: random damage to learn from
- :mod:`~stagepose.training.gan.poses`: possible new poses, by limits learnt from a data set
- :mod:`~stagepose.training.gan.losses`, :mod:`~stagepose.training.gan.task`: what is learnt, for the usual loop
- :mod:`~stagepose.training.gan.presets`, :mod:`~stagepose.training.gan.build`: sizes by name, from files to a task
"""
