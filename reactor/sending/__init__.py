"""What workers send up for clients, its limits and its compression."""
