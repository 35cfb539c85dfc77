"""What `smsfleet doctor` and the operators' page look at."""
