"""Trained models on images without a reference: three functions on plain arrays, and the command `predict`."""

from lib.prediction.answers import Answer as Answer
from lib.prediction.answers import measurements as measurements
from lib.prediction.answers import predict as predict
from lib.prediction.ensemble import load as load
