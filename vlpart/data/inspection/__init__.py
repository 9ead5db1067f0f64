"""What `vlpart.data.doctor` looks at: single annotations, pictures on disk, and splits against each other."""
