"""The annotation parser: parts of novel objects, carried over from parts of base objects (docs/method.md, 'Annotation
parser').

Read in this order: `features` (what an image looks like to a self-supervised transformer), `references` and `bank` (the
base images), `correspondence` (which patch looks like which, and patches to part masks and boxes), `detector` (the
detector's boxes), `rename` (the parts get the novel object's name), `image_parser` (one image), `run` (a data set).
Beyond the published parser, `voting` and `object_parser` are the path of an image whose objects are annotated.
"""
