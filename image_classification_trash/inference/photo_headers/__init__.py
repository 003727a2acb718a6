"""What a photo's bytes say of its decoding, one format a module: bounded walks over headers, without a decoder."""
