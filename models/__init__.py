"""Networks, losses and metrics, the camera and the skeleton."""
