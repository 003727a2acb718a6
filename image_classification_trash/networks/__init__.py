"""The networks: backbones with their pretrained weights, the classifier around them, the torch engine."""
