"""Training, calibration and model cards. The application does not need this package."""
