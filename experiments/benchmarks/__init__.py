"""Speed, as ratios measured in one sitting."""
