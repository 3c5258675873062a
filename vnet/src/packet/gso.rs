//! Cutting a large segment into frames: software segmentation offload.
