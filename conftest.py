"""What pytest must know before it collects any test of the project."""

pytest_plugins = ["pytester"]
