"""Does a stream of photos still look like the data that a model was trained on?"""
