"""Millions of images on one machine or many: blocks of images in, Parquet files out, over Ray Data (`vlpart bulk`)."""
