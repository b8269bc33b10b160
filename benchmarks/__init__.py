"""Speed and memory of the engines beside their baselines, measured only for engines that agree with the reference."""
