"""What Homeroom is measured against."""
