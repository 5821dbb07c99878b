"""Fine-tuning runs whose answers are columns of a table: floor, training, decision, measurement, report."""
