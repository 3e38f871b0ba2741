"""What is said of a trial: treatments, objectives, observations, and which is best."""
