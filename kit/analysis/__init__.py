"""What records mean when they are compared: functions of records and device profiles, never stored."""
