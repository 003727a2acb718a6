"""Networks: backbones with their pretrained weights, the classifier around them, the torch runtime."""
