"""Necks: a feature pyramid for backbones of a single scale."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
