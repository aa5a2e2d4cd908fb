"""Line-ups: which of two models that behave alike is the faker? Pairs built on demand, strategies in a process of their own, scores."""
