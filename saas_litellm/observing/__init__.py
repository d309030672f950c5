"""What a machine that watches the platform is told: metrics, and the doctor's findings."""
