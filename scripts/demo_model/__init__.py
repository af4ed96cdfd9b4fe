"""The parts of make_demo_model.py, in the order in which it uses them."""
