"""Pictures of the data, the training and the errors, and the HTML report that holds them."""
