"""StatisticsGen: statistics of each split."""
