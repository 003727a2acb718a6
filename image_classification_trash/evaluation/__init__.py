"""What is measured: metrics with intervals, calibration, rejection, and the card that states them."""
