"""The annotation parser: parts of novel objects, carried over from parts of base objects (docs/method.md, 'Annotation
parser').

Read in this order: `features` (what an image looks like to a self-supervised transformer), `reference_bank` (the base
images), `correspondence` (which patch looks like which), `transfer` (patches to part masks and boxes), `detections`
(the detector's boxes), `rename` (the parts get the novel object's name), `parser` (one image), `run` (a data set).
"""
