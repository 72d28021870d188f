"""Datasets that shards are made of: what a class of one's own must say, and the checks that all of them share."""

from tools.sources.source import SPLITS, FrameError, FrameLabels, Recording, Source, SurveyedFrame

__all__ = ["SPLITS", "FrameError", "FrameLabels", "Recording", "Source", "SurveyedFrame"]
