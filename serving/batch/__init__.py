"""Predictions for whole files, on Beam: CSV, Parquet or TFRecord in, predictions with keys and model version out.

python -m serving.batch data/new.csv predictions --model runs/census-income/registry/census-income
"""
