"""Keep courses, their versions and enrolments."""
