"""`python -m fanet`, and so `accelerate launch -m fanet train RECIPE`."""

from fanet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
